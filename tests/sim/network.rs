//! Where a pod can be reached, as its status has it, and the warning that it asks for there.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use crate::pod::{Ask, Threshold};

/// Whose address it is: the generator knows, because it has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The pod's own; nobody else had it before, and nobody will have it after.
    Own,
    Node,
    Loopback,
    LinkLocal,
    Multicast,
    Unspecified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// `None`: it has no address yet.
    pub address: Option<(Whose, IpAddr)>,
    /// It shares its node's network, so what looks like its own address is another one of the node's.
    pub host: bool,
}

/// The addresses of the node.
const NODES: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

impl Network {
    /// One that may be warned.
    pub const SOUND: Network =
        Network { address: Some((Whose::Own, IpAddr::V4(Ipv4Addr::new(10, 99, 9, 9)))), host: false };

    /// `number`: of a new address of its own.
    pub fn random(rng: &mut Rng, number: u32) -> Network {
        let one_of = |rng: &mut Rng, texts: &[&str]| texts[rng.usize(0..texts.len())].parse().unwrap();
        let host = rng.u8(0..12) == 0;
        // The kubelet gives a pod in its node's network the node's address.
        let kind = if host && rng.bool() { 1 } else { rng.u8(0..20) };
        let address = match kind {
            0 => None,
            1 => Some((Whose::Node, one_of(rng, &[NODES[0], NODES[1], "::ffff:192.0.2.7"]))),
            2 => Some((Whose::Loopback, one_of(rng, &["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]))),
            3 => Some((
                Whose::LinkLocal,
                one_of(rng, &["169.254.169.254", "169.254.0.7", "fe80::7", "febf::7", "::ffff:169.254.169.254"]),
            )),
            4 => Some((Whose::Multicast, one_of(rng, &["224.0.0.1", "239.1.2.3", "ff02::1", "::ffff:224.0.0.251"]))),
            5 => Some((Whose::Unspecified, one_of(rng, &["0.0.0.0", "::", "::ffff:0.0.0.0"]))),
            _ => Some((Whose::Own, own(rng, number))),
        };
        Network { address, host }
    }

    /// Where it may be warned, as docs/remedies.md promises it.
    pub fn own(&self) -> Option<IpAddr> {
        self.address.filter(|(whose, _)| *whose == Whose::Own && !self.host).map(|(_, ip)| ip)
    }

    /// Why it is not warned.
    pub fn stranger(&self) -> Option<&'static str> {
        Some(match self.address {
            _ if self.host => "not warned: host network",
            None => "not warned: no address",
            Some((Whose::Own, _)) => return None,
            Some((Whose::Node, _)) => "not warned: the node's",
            Some((Whose::Loopback, _)) => "not warned: loopback",
            Some((Whose::LinkLocal, _)) => "not warned: link-local",
            Some((Whose::Multicast, _)) => "not warned: multicast",
            Some((Whose::Unspecified, _)) => "not warned: unspecified",
        })
    }

    pub fn write_status(&self, t: &mut String) {
        let _ = write!(t, r#","hostIP":"{}","hostIPs":[{{"ip":"{}"}},{{"ip":"{}"}}]"#, NODES[0], NODES[0], NODES[1]);
        if let Some((_, ip)) = self.address {
            let _ = write!(t, r#","podIP":"{ip}""#);
        }
    }
}

fn own(rng: &mut Rng, number: u32) -> IpAddr {
    let v4 = Ipv4Addr::from_bits(u32::from_be_bytes([10, 88, 0, 0]) + number);
    match rng.u8(0..6) {
        0 => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number)).into(),
        1 => v4.to_ipv6_mapped().into(),
        _ => v4.into(),
    }
}

/// The annotations about warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warn {
    /// In the unit of the other threshold.
    pub at: u64,
    /// `None`: it was forgotten, and the guard is invalid.
    pub port: Option<u16>,
    pub path: &'static str,
}

impl Warn {
    pub fn random(rng: &mut Rng, threshold: Threshold) -> Option<Warn> {
        if rng.u8(0..3) > 0 {
            return None;
        }
        let below = match threshold {
            Threshold::Percent(value) | Threshold::Quantity(value) => value,
            Threshold::Missing | Threshold::Bad(_) => 60,
        };
        // Few are written too high.
        let at = if rng.u8(0..60) == 0 { below } else { rng.u64(below / 3..below) };
        let port = (rng.u8(0..60) > 0).then(|| rng.u16(1..));
        Some(Warn { at, port, path: ["/", "/low-memory", "/drop?caches=all"][rng.usize(0..3)] })
    }

    /// What docs/annotations.md demands of it.
    pub fn is_valid(&self, ask: &Ask) -> bool {
        let below = match ask.threshold {
            Threshold::Percent(value) | Threshold::Quantity(value) => value,
            Threshold::Missing | Threshold::Bad(_) => return false,
        };
        self.port.is_some() && self.at < below
    }

    pub fn annotate(&self, ask: &Ask, mut annotate: impl FnMut(&str, &str)) {
        let unit = if matches!(ask.threshold, Threshold::Quantity(_)) { "Mi" } else { "" };
        annotate("warn-threshold", &format!("{}{unit}", self.at));
        if let Some(port) = self.port {
            annotate("warn-url", &format!(":{port}{}", self.path));
        }
    }
}
