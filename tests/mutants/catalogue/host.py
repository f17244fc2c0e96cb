"""What is asked of the host: interfaces, netlink, the subnet file, readiness."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_INTERFACES = "udpoverlay/host/interfaces.py"
_NETLINK = "udpoverlay/host/netlink.py"
_NOTIFY = "udpoverlay/host/notify.py"
_PRIVILEGES = "udpoverlay/host/privileges"
_SUBNETFILE = "udpoverlay/host/subnetfile.py"

MUTANTS = (
    Mutant(
        name="mtu-without-udp-header",
        bug="the tunnel's MTU is 8 bytes too large: full packets are fragmented on the underlay",
        file="udpoverlay/backend/udp.py",
        old="OVERHEAD = 28",
        new="OVERHEAD = 20",
        tests=("tests/backend",),
    ),
    Mutant(
        name="public-ip-not-published",
        bug="behind NAT peers are told the private address instead of --public-ip",
        file=_INTERFACES,
        old="public_ip=public_v4 or found.v4,",
        new="public_ip=found.v4,",
        tests=("tests/host/test_interfaces.py",),
    ),
    Mutant(
        name="deprecated-address-used",
        bug="the tunnel is bound to a deprecated address that is about to vanish",
        file=_INTERFACES,
        old="        and not address.deprecated\n",
        new="",
        tests=("tests/host/test_interfaces.py",),
    ),
    Mutant(
        name="link-local-preferred",
        bug="169.254.x.y is published although the interface has a routable address",
        file=_INTERFACES,
        old="return (address.ip.is_link_local(), not address.permanent, address.temporary)",
        new="return (not address.permanent, address.temporary, address.ip.is_link_local())",
        tests=("tests/host/test_interfaces.py",),
    ),
    Mutant(
        name="regex-prefers-names",
        bug="--iface-regex picks an interface by its name although another's address matches",
        file=_INTERFACES,
        old="        v4 = _first_match(regex, _usable(link, 4))\n",
        new="        if regex.search(link.name):\n            return _Found(link)\n"
        "        v4 = _first_match(regex, _usable(link, 4))\n",
        tests=("tests/host/test_interfaces.py",),
    ),
    Mutant(
        name="second-start-fails-on-route",
        bug="a daemon does not start when the route to the network exists already",
        file=_NETLINK,
        old="                )\n        except KernelError as error:\n"
        "            if error.errno == errno.EEXIST:",
        new="                )\n        except KernelError as error:\n"
        "            if error.errno == errno.ENOENT:",
        tests=("tests/host/test_netlink.py",),
    ),
    Mutant(
        name="tunnel-address-brings-a-subnet",
        bug="the TUN's address is set as /24: containers of this host are looked for in the tunnel",
        file=_NETLINK,
        old='"prefixlen": 32 if address.version == 4 else 128,',
        new='"prefixlen": 24 if address.version == 4 else 128,',
        tests=("tests/host/test_netlink.py",),
    ),
    Mutant(
        name="default-route-of-another-table",
        bug="the interface of a VPN's policy table is chosen instead of the default route's",
        file=_NETLINK,
        old='(message.get_attr("RTA_TABLE") or message["table"]) == _RT_TABLE_MAIN',
        new='message["table"]',
        tests=("tests/host/test_netlink_choice.py",),
    ),
    Mutant(
        name="point-to-point-peer-address",
        bug="on a point-to-point link the other end's address is taken for our own",
        file=_NETLINK,
        old='text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")',
        new='text = message.get_attr("IFA_ADDRESS") or message.get_attr("IFA_LOCAL")',
        tests=("tests/host/test_netlink_choice.py",),
    ),
    Mutant(
        name="lost-notices-not-looked-up",
        bug="when the kernel drops notices it is as if nothing had changed",
        file="udpoverlay/host/notices.py",
        old="                return None\n",
        new="                return []\n",
        tests=("tests/host/test_notices.py",),
    ),
    Mutant(
        name="subnet-file-unreadable",
        bug="subnet.env has mode 0600: a CNI plugin that is not root cannot read it",
        file=_SUBNETFILE,
        old="            os.fchmod(file.fileno(), mode)\n",
        new="",
        tests=("tests/host/test_subnetfile.py",),
    ),
    Mutant(
        name="subnet-file-written-in-place",
        bug="a CNI plugin that reads during a restart sees half a subnet.env",
        file=_SUBNETFILE,
        old="        os.replace(temporary, target)\n",
        new="        target.write_text(text)\n        os.unlink(temporary)\n",
        tests=("tests/host/test_subnetfile.py",),
    ),
    Mutant(
        name="readiness-to-a-file-called-at",
        bug="READY=1 never reaches a service manager that uses an abstract socket (@name)",
        file=_NOTIFY,
        old='name = "\\0" + address[1:] if address[0] == "@" else address',
        new="name = address",
        tests=("tests/host/test_notify.py",),
    ),
    Mutant(
        name="tunnel-looks-for-a-router",
        bug="IPv6 router solicitations of our own device are counted as dropped packets",
        file=_NETLINK,
        old="        await netlink.set_no_link_local(index)\n",
        new="",
        tests=("tests/host/test_netlink.py",),
    ),
    Mutant(
        name="log-thread-keeps-its-rights",
        bug="the thread that writes the log is root with all capabilities for good",
        file=f"{_PRIVILEGES}/process.py",
        old="        renew_threads()\n",
        new="",
        tests=("tests/host/privileges/test_process.py",),
    ),
    Mutant(
        name="user-namespaces-allowed",
        bug="a daemon that was taken over makes a user namespace and has every capability in it",
        file=f"{_PRIVILEGES}/bpf.py",
        old="_NAMESPACES = 0x7E020000",
        new="_NAMESPACES = 0x6E020000",
        tests=("tests/host/privileges/test_bpf.py",),
    ),
    Mutant(
        name="foreign-key-not-looked-at",
        bug="a renewed key of another user cannot be read: the registry is lost months later",
        file=f"{_PRIVILEGES}/needs.py",
        old="*((path, False) for path in self.reads if path and os.path.exists(path)),",
        new="",
        tests=("tests/host/privileges/test_needs.py",),
    ),
    Mutant(
        name="rights-never-given-up",
        bug="the threads that look at packets from others are root with all capabilities",
        file="udpoverlay/daemon.py",
        old="    privileges.give_up(_needs(plan))\n",
        new="",
        tests=(
            "tests/netns/test_privileges.py"
            "::test_folder_of_another_user_keeps_a_capability_and_is_written_to",
        ),
    ),
)
