//! The proxies of the environment, as Go's `golang.org/x/net/http/httpproxy` and so kubectl take them.

use std::net::IpAddr;

use anyhow::anyhow;
use http::Uri;

use super::chosen::has_host;

/// The proxies of the environment: the variables as they are set.
#[derive(Debug, Default)]
pub(super) struct Environment {
    http: Option<Variable>,
    https: Option<Variable>,
    no_proxy: String,
}

/// Its name, and its value.
type Variable = (&'static str, String);

impl Environment {
    /// An empty variable counts as not set.
    #[expect(clippy::disallowed_methods, reason = "the proxies of the environment are read here")]
    pub(super) fn read() -> Environment {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?)))
        };
        Environment {
            http: first(["HTTP_PROXY", "http_proxy"]),
            https: first(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default(),
        }
    }

    /// The proxy of requests to this address.
    pub(super) fn of(&self, target: &Uri) -> anyhow::Result<Option<Uri>> {
        let is_https = target.scheme_str() == Some("https");
        let Some((name, value)) = (if is_https { &self.https } else { &self.http }) else { return Ok(None) };
        let port = target.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        if is_direct(target.host().unwrap_or_default(), port, &self.no_proxy) {
            return Ok(None);
        }
        // A proxy without a scheme is one of http.
        let text = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let wrong = || anyhow!("{name} \"{value}\" is no proxy: write an address such as http://HOST:3128");
        url(&text).ok_or_else(wrong).map(Some)
    }
}

/// The address of a proxy.
pub(super) fn url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    if !has_host(&uri) || !matches!(uri.scheme_str(), Some("http" | "https" | "socks5" | "socks5h")) {
        return None;
    }
    // kube knows one of the two, and leaves the name to the proxy, as the other is to do.
    match text.strip_prefix("socks5h://") {
        Some(rest) => format!("socks5://{rest}").parse().ok(),
        None => Some(uri),
    }
}

/// Whether `NO_PROXY` excepts this address, or it is a loopback one.
fn is_direct(host: &str, port: u16, no_proxy: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return true;
    }
    let entries = no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter(|entry| !entry.is_empty()).any(|entry| excepts(&entry, &host, ip, port))
}

/// Whether an entry of `NO_PROXY` is about this address. As in Go, `.example.com` and `*.example.com` are about the names below
/// `example.com`, and `example.com` about itself, too.
fn excepts(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = network(entry) {
        return ip.is_some_and(|ip| is_within(ip.to_canonical(), network, bits));
    }
    let (name, of_port) = match entry.rsplit_once(':') {
        // An address of IPv6 has colons of its own.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (entry, None),
    };
    if of_port.is_some_and(|of| of.parse() != Ok(port)) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(own) = name.parse::<IpAddr>() {
        return ip.is_some_and(|ip| ip.to_canonical() == own.to_canonical());
    }
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let below = host.strip_suffix(name).is_some_and(|rest| name.starts_with('.') || rest.ends_with('.'));
    ip.is_none() && !name.is_empty() && (below || host == name)
}

/// An entry such as `10.0.0.0/8`.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.split_once('/')?;
    let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    (bits <= if network.is_ipv4() { 32 } else { 128 }).then_some((network, bits))
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    // Of the first `bits` bits, none differs. Shifted by all there are, nothing is left.
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(of)) => (ip.to_bits() ^ of.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0,
        (IpAddr::V6(ip), IpAddr::V6(of)) => (ip.to_bits() ^ of.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go's own tests have them (`httpproxy.TestUseProxy`), and more of their kinds.
    #[test]
    fn no_proxy_is_about_the_server() {
        let direct = |server: &str, no_proxy: &str| {
            let uri: Uri = server.parse().unwrap();
            is_direct(uri.host().unwrap(), uri.port_u16().unwrap_or(443), no_proxy)
        };
        for (server, no_proxy) in [
            ("https://localhost:6443", ""),
            ("https://127.0.0.2:6443", ""),
            ("https://[::1]:6443", ""),
            ("https://10.1.2.3:6443", "10.0.0.0/8"),
            ("https://10.1.2.3:6443", "example.com, 10.1.2.3 ,"),
            ("https://10.1.2.3:6443", "10.1.2.3:6443"),
            ("https://10.1.2.3", "0.0.0.0/0"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://[fd00::1]:6443", "fd00::1"),
            ("https://[fd00::1]:6443", "[fd00::1]"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
            ("https://api.example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("https://API.Example.com", "EXAMPLE.COM"),
            ("https://api.example.com", ".example.com"),
            ("https://api.example.com", "*.example.com"),
            ("https://api.example.com:6443", "example.com:6443"),
            ("https://api.example.com", " , ,api.example.com,"),
            ("https://anything", "*"),
            ("https://anything", "a,*"),
            ("https://10.1.2.3", "*"),
        ] {
            assert!(direct(server, no_proxy), "{server} {no_proxy}");
        }
        for (server, no_proxy) in [
            ("https://10.1.2.3:6443", ""),
            ("https://10.1.2.3:6443", "11.0.0.0/8,10.1.2.4,10.1.2.3:443"),
            ("https://10.1.2.3:6443", "10.0.0.0/33,10.,*.2.3,2.3"),
            ("https://[fd00::1]:6443", "fe00::/8,10.0.0.0/8,fd00::2"),
            ("https://example.com", ".example.com"),
            ("https://example.com", "*.example.com"),
            ("https://notexample.com", "example.com"),
            ("https://example.com.evil", "example.com"),
            ("https://api.example.com", "example.com:6443"),
            ("https://api.example.com", "api.*,*api.example.com,proxy"),
            ("https://api.example.com", "http://api.example.com,:443"),
        ] {
            assert!(!direct(server, no_proxy), "{server} {no_proxy}");
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_scheme() {
        let variable = |value: &str| Some(("HTTPS_PROXY", value.to_owned()));
        let of = |value: &str, server: &str| {
            let environment =
                Environment { https: variable(value), no_proxy: "proxy,".into(), ..Environment::default() };
            environment.of(&server.parse().unwrap()).map(|proxy| proxy.map(|uri| uri.to_string()))
        };
        let server = "https://api.example.com:6443";
        assert_eq!(of("http://proxy:3128", server).unwrap().as_deref(), Some("http://proxy:3128/"));
        assert_eq!(of("proxy:3128", server).unwrap().as_deref(), Some("http://proxy:3128/"));
        assert_eq!(of("socks5h://proxy:1080", server).unwrap().as_deref(), Some("socks5://proxy:1080/"));
        assert_eq!(of("http://proxy:3128", "http://api.example.com").unwrap(), None);
        assert_eq!(of("ftp://proxy", "https://localhost").unwrap(), None);
        assert!(of("ftp://proxy", server).unwrap_err().to_string().contains("HTTPS_PROXY \"ftp://proxy\""));
    }
}
