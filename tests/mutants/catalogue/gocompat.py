"""Go's parsing rules: what flannel's users write must mean the same here."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_FLAGS = "udpoverlay/gocompat/flags.py"
_JSON = "udpoverlay/gocompat/json.py"
_NET = "udpoverlay/gocompat/net.py"

MUTANTS = (
    Mutant(
        name="flag-collects-only-last",
        bug="of `--iface=eth0 --iface=eth1` only the last interface is tried",
        file=_FLAGS,
        old="return (*given.get(flag.name, ()), value) if flag.repeatable else value",
        new="return (value,) if flag.repeatable else value",
        tests=("tests/gocompat/test_flags.py",),
    ),
    Mutant(
        name="environment-beats-flag",
        bug="FLANNELD_IFACE in the unit's environment wins over --iface on the command line",
        file=_FLAGS,
        old="if flag.name in parsed.given or not text:",
        new="if not text:",
        tests=("tests/gocompat/test_flags.py",),
    ),
    Mutant(
        name="flag-octal-as-decimal",
        bug="`-healthz-port=017` means 17 and not 15, as it does for flanneld",
        file=_FLAGS,
        old='"o": 8, "zero": 8, "d": 10}',
        new='"o": 8, "zero": 10, "d": 10}',
        tests=("tests/gocompat/test_flags.py",),
    ),
    Mutant(
        name="flag-bool-takes-next-word",
        bug="`--ip-masq --iface=eth0` reads --iface=eth0 as the value of --ip-masq",
        file=_FLAGS,
        old="""        if flag.is_bool:
            value = value if equals else "true"
        elif not equals:""",
        new="""        if not equals:""",
        tests=("tests/gocompat/test_flags.py",),
    ),
    Mutant(
        name="json-first-key-wins",
        bug="of a key given twice in the Backend of a configuration the first value counts",
        file=_JSON,
        old="if value is not None or name not in merged:",
        new="if name not in merged:",
        tests=("tests/gocompat/test_json.py",),
    ),
    Mutant(
        name="json-null-is-false",
        bug='`"EnableIPv4": null` switches IPv4 off',
        file=_JSON,
        old="""    if raw == "null":
        return current
    if raw in ("true", "false"):""",
        new="""    if raw == "null":
        return False
    if raw in ("true", "false"):""",
        tests=("tests/model/test_netconf.py",),
    ),
    Mutant(
        name="json-key-case-matters",
        bug='`"network"` in lower case, which flanneld takes, is ignored',
        file=_JSON,
        old="""return key.replace("\\u017f", "s").lower()""",
        new="""return key.replace("\\u017f", "s")""",
        tests=("tests/model/test_netconf.py",),
    ),
    Mutant(
        name="json-quote-does-not-escape",
        bug="a lease's value in etcd differs by bytes from flanneld's: <, > and & are not escaped",
        file=_JSON,
        old="return _escape(json.dumps(clean(text), ensure_ascii=False))",
        new="return json.dumps(clean(text), ensure_ascii=False)",
        tests=("tests/registry/etcd/test_codec.py",),
    ),
    Mutant(
        name="json-garbage-after-end",
        bug="a network configuration with rubbish behind its last brace is accepted",
        file=_JSON,
        old="    if at != len(text):\n",
        new="    if at > len(text):\n",
        tests=("tests/model/test_netconf.py",),
    ),
    Mutant(
        name="net-keeps-host-bits",
        bug="`Network: 10.5.1.7/16` is routed as written instead of as 10.5.0.0/16",
        file=_NET,
        old="return IPNetwork((value >> host_bits << host_bits, length), version=version)",
        new="return IPNetwork((value, length), version=version)",
        tests=("tests/gocompat/test_net.py",),
    ),
    Mutant(
        name="net-mapped-stays-ipv6",
        bug="a public IP written ::ffff:192.0.2.1 is no IPv4 address",
        file=_NET,
        old="    if is_mapped(value):\n        return IPAddress(value & 0xFFFFFFFF, version=4)\n",
        new="",
        tests=("tests/gocompat/test_net.py",),
    ),
    Mutant(
        name="net-octet-with-leading-zero",
        bug="10.5.010.0/24 is read as 10.5.10.0/24, which Go refuses as ambiguous",
        file=_NET,
        old="_OCTETS = {str(value): value for value in range(256)}",
        new='_OCTETS = {text: v for v in range(256) for text in (str(v), f"0{v}")}',
        tests=("tests/gocompat/test_net.py",),
    ),
)
