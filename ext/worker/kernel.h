/* SPDX-License-Identifier: Apache-2.0
 *
 * kernel: constants of Linux' interfaces that an old build host's headers lack.
 *
 * Owns: nothing but numbers; whether the running kernel knows them is probed at run time
 * (udpoverlay/dataplane/features.py). Values from include/uapi/linux of Linux 6.12.
 */
#ifndef UDPOVERLAY_KERNEL_H
#define UDPOVERLAY_KERNEL_H

#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* Linux 4.18 */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104 /* Linux 5.0 */
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20 /* Linux 6.2 */
#define TUN_F_USO6 0x40
#endif

#endif
