//! The set `private`: addresses that are not another host on the public internet.
//!
//! Invariant: an IPv6 address that a translator or a tunnel turns into an IPv4 address is judged as both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address and prefix length of each IPv4 network in the set (IANA's special-purpose registry, RFC 6890).
const V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),        // this network; the unspecified address reaches this host
    ([10, 0, 0, 0], 8),       // RFC 1918
    ([100, 64, 0, 0], 10),    // carriers' NAT, RFC 6598 (and a cloud's metadata at 100.100.100.200)
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // a cloud's host agent and metadata on a public address
    ([169, 254, 0, 0], 16),   // link-local, RFC 3927 (cloud metadata at 169.254.169.254)
    ([172, 16, 0, 0], 12),    // RFC 1918
    ([192, 0, 0, 0], 24),     // protocol assignments, RFC 6890
    ([192, 0, 2, 0], 24),     // documentation, RFC 5737
    ([192, 88, 99, 0], 24),   // 6to4 relays, RFC 7526
    ([192, 168, 0, 0], 16),   // RFC 1918
    ([198, 18, 0, 0], 15),    // benchmarks, RFC 2544
    ([198, 51, 100, 0], 24),  // documentation, RFC 5737
    ([203, 0, 113, 0], 24),   // documentation, RFC 5737
    ([224, 0, 0, 0], 4),      // multicast, RFC 5771
    ([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// Within 2000::/3, which alone is public.
const V6: &[([u16; 3], u32)] = &[
    ([0x2001, 0, 0], 23),     // protocol assignments, RFC 2928 (Teredo, benchmarks, ORCHID …)
    ([0x2001, 0xdb8, 0], 32), // documentation, RFC 3849
    ([0x3fff, 0, 0], 20),     // documentation, RFC 9637
];

/// Whether the set holds `ip`.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip) || embedded(ip).any(v4),
    }
}

fn v4(ip: Ipv4Addr) -> bool {
    V4.iter().any(|(net, length)| (ip.to_bits() ^ u32::from_be_bytes(*net)) >> (32 - length) == 0)
}

fn v6(ip: Ipv6Addr) -> bool {
    let [first, second, third, ..] = ip.segments();
    let [top, ..] = ip.octets();
    if matches!((first, second, third), (0x64, 0xff9b, 0 | 1)) {
        // Translated addresses: judged by what they embed. What lies beyond 64:ff9b::/96 is nothing.
        return third == 0 && ip.to_bits() >> 32 & 0xffff_ffff_ffff != 0;
    }
    top >> 5 != 1
        || V6.iter().any(|([a, b, c], length)| {
            let net = u128::from(*a) << 112 | u128::from(*b) << 96 | u128::from(*c) << 80;
            (ip.to_bits() ^ net) >> (128 - length) == 0
        })
}

/// The IPv4 addresses that an IPv6 address may be turned into on the way: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056),
/// and ISATAP's form of an interface (RFC 5214).
pub(crate) fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let b = ip.octets();
    let [.., w, x, y, z] = b;
    let last = Ipv4Addr::new(w, x, y, z);
    let nat64 =
        [[0, 0x64, 0xff, 0x9b, 0, 0], [0, 0x64, 0xff, 0x9b, 0, 1]].iter().any(|net| b.starts_with(net));
    // In 64:ff9b:1::/48 a network picks its prefix length; where the tail is empty, it is a short one.
    let short = nat64 && b[5] == 1 && b[8] == 0 && last.is_unspecified();
    let to4 = b[..2] == [0x20, 0x02];
    let isatap = b[8] & !2 == 0 && b[9..12] == [0, 0x5e, 0xfe];
    [
        (nat64 && !short || isatap).then_some(last),
        short.then(|| Ipv4Addr::new(b[6], b[7], b[9], b[10])),
        (short && b[6] == 0).then(|| Ipv4Addr::new(b[7], b[9], b[10], b[11])),
        (short && b[6] == 0 && b[7] == 0).then(|| Ipv4Addr::new(b[9], b[10], b[11], b[12])),
        to4.then(|| Ipv4Addr::new(b[2], b[3], b[4], b[5])),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRIVATE: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.251",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
    ];
    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
    ];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| unreachable!("{text}"))
    }

    /// Every way to write an IPv4 address as an IPv6 one that is then dialled as IPv4.
    fn forms(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = v4.octets();
        let hi = u16::from_be_bytes([a, b]);
        let lo = u16::from_be_bytes([c, d]);
        vec![
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, hi, lo),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0xabcd, 0x1234, 1, hi, lo),
            Ipv6Addr::new(0x64, 0xff9b, 1, hi, c.into(), u16::from(d) << 8, 0, 0),
            Ipv6Addr::new(0x2002, hi, lo, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, hi, lo),
            Ipv6Addr::new(0x2a00, 1, 2, 3, 0x200, 0x5efe, hi, lo),
        ]
    }

    #[test]
    fn ipv4_in_every_form() {
        for text in PRIVATE {
            let IpAddr::V4(v4) = ip(text) else { unreachable!() };
            assert!(is_private(v4.into()), "{text}");
            for form in forms(v4) {
                assert!(is_private(form.into()), "{text} as {form}");
            }
        }
        for text in PUBLIC {
            let IpAddr::V4(v4) = ip(text) else { unreachable!() };
            assert!(!is_private(v4.into()), "{text}");
            for form in forms(v4).into_iter().filter(|form| !embedded(*form).any(super::v4)) {
                assert!(!is_private(form.into()), "{text} as {form}");
            }
            assert!(
                !is_private(Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(v4.to_bits())).into()),
                "{text}"
            );
        }
    }

    #[test]
    fn ipv6() {
        for text in [
            "::",
            "::1",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            "64:ff9b:0:1::808:808",
            "64:ff9b:2::808:808",
        ] {
            assert!(is_private(ip(text)), "{text}");
        }
        for text in ["2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2001:200::1", "3ffe::1"]
        {
            assert!(!is_private(ip(text)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_a_private_address_is_public(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            if is_private(v4.into()) {
                for form in forms(v4) {
                    prop_assert!(is_private(form.into()), "{} as {}", v4, form);
                }
            }
        }
    }
}
