//! Where a warning may go: to the pod's own address, and to no other. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::pods::Pod;
use crate::pods::guard::WarnUrl;

/// Why a pod cannot be warned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// It has no address yet.
    None,
    HostNetwork,
    /// Its status names an address that cannot be a pod's: loopback, link-local, multicast, unspecified, or the node's.
    NotOfAPod,
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoAddress::None => "the pod has no address",
            NoAddress::HostNetwork => {
                "the pod is in the network of its node (hostNetwork), so the address is not its own"
            }
            NoAddress::NotOfAPod => "the pod's address in its status cannot be a pod's",
        })
    }
}

/// The address and port of a warning.
///
/// # Errors
/// Why there is none.
pub fn address(pod: &Pod, url: &WarnUrl) -> Result<SocketAddr, NoAddress> {
    if pod.host_network {
        return Err(NoAddress::HostNetwork);
    }
    // The same address in another notation is the same address.
    let ip = pod.ip.ok_or(NoAddress::None)?.to_canonical();
    let is_the_nodes = pod.host_ips.iter().any(|host| host.to_canonical() == ip);
    if is_the_nodes || !can_be_a_pods(ip) {
        return Err(NoAddress::NotOfAPod);
    }
    Ok(SocketAddr::new(ip, url.port))
}

fn can_be_a_pods(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast() && ip.octets()[0] != 0,
        // An IPv4 address in an IPv6 one that is not mapped is an old form, which some systems still translate.
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.segments()[..6] != [0; 6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn to(spec: &serde_json::Value, status: &serde_json::Value) -> Result<SocketAddr, NoAddress> {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        address(&Pod::from_json(&pod.to_string()).unwrap(), &WarnUrl { port: 8080, path: "/".into() })
    }

    #[test]
    fn a_warning_goes_to_the_pods_own_address_alone() {
        let plain = json!({"containers": []});
        let at =
            |ip: &str| to(&plain, &json!({"podIP": ip, "hostIP": "192.0.2.7", "hostIPs": [{"ip": "2001:db8::7"}]}));
        assert_eq!(at("10.88.0.7"), Ok("10.88.0.7:8080".parse().unwrap()));
        assert_eq!(at("fd00::7"), Ok("[fd00::7]:8080".parse().unwrap()));
        for bad in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "192.0.2.7",
            "2001:db8::7",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:192.0.2.7",
            "::7f00:1",
        ] {
            assert_eq!(at(bad), Err(NoAddress::NotOfAPod), "{bad}");
        }
        for none in ["", "web.example.com", "10.88.0.7:80", "10.88.0", "fe80::1%eth0", " 10.88.0.7"] {
            assert_eq!(at(none), Err(NoAddress::None), "{none}");
        }
        assert_eq!(to(&plain, &json!({})), Err(NoAddress::None));
        let host = json!({"containers": [], "hostNetwork": true});
        assert_eq!(to(&host, &json!({"podIP": "10.88.0.7"})), Err(NoAddress::HostNetwork));
    }
}
