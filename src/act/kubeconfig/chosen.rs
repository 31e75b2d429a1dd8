//! A context, and its cluster and user, as a configuration of kube.

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use http::Uri;
use k8s_openapi::ByteString;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::proxy::{self, Environment};

/// The configuration of a context; `None`: of the current one.
pub(super) fn choose(config: Kubeconfig, context: Option<&str>, proxies: &Environment) -> anyhow::Result<kube::Config> {
    let all = || names(config.contexts.iter().map(|context| &context.name));
    let name = context
        .or(config.current_context.as_deref())
        .ok_or_else(|| anyhow!("there is no current context: name one of {} with --context", all()))?;
    let named = config.contexts.iter().find(|context| context.name == name);
    let context = named.ok_or_else(|| anyhow!("there is no context \"{name}\", only {}", all()))?;
    let context = context.context.clone().unwrap_or_default();
    ensure!(!context.cluster.is_empty(), "context \"{name}\" names no cluster");
    let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|cluster| cluster.cluster.clone());
    let cluster = cluster
        .ok_or_else(|| anyhow!("there is no cluster \"{}\", which context \"{name}\" names", context.cluster))?;
    let user = match &context.user {
        None => AuthInfo::default(),
        Some(user) => {
            let named = config.auth_infos.iter().find(|other| other.name == *user);
            let named = named.ok_or_else(|| anyhow!("there is no user \"{user}\", which context \"{name}\" names"))?;
            let user_of = || format!("user \"{user}\"");
            credentials(named.auth_info.clone().unwrap_or_default(), &cluster).with_context(user_of)?
        }
    };
    let mut kube = of_cluster(&cluster, &user, proxies).with_context(|| format!("cluster \"{}\"", context.cluster))?;
    kube.default_namespace = context.namespace.unwrap_or(kube.default_namespace);
    kube.auth_info = user;
    Ok(kube)
}

fn names<'a>(all: impl Iterator<Item = &'a String>) -> String {
    let all: Vec<_> = all.map(|name| format!("\"{name}\"")).collect();
    match all.len() {
        0 => "none, because the kubeconfig has no contexts".into(),
        1..=12 => all.join(", "),
        more => format!("{} and {} more", all[..12].join(", "), more - 12),
    }
}

const NO_TOKEN: &str = "it is empty, or has a line's end or another control character in it";

/// Whether it can be sent; kube 5.0.0 panics if not.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Checks what kube would only find out later, and could not say whose it is.
fn credentials(mut user: AuthInfo, cluster: &Cluster) -> anyhow::Result<AuthInfo> {
    if let (None, Some(file)) = (&user.token, &user.token_file) {
        let text = std::fs::read_to_string(file).with_context(|| format!("tokenFile {file}"))?;
        ensure!(is_token(text.trim()), "tokenFile {file}: it is no token: {NO_TOKEN}");
    }
    // kube gives its text away in no other way.
    let written = serde_json::to_value(&user)?;
    ensure!(written["token"].as_str().is_none_or(is_token), "its token is none: {NO_TOKEN}");
    let certificate = (&user.client_certificate_data, &user.client_certificate);
    bytes("client-certificate", certificate.0.as_deref(), certificate.1.as_deref())?;
    if let (None, Some(file)) = (&user.client_key_data, &user.client_key) {
        bytes("client-key", None, Some(file))?;
    }
    let has_certificate = certificate != (&None, &None);
    let has_key = user.client_key_data.is_some() || user.client_key.is_some();
    ensure!(has_key || !has_certificate, "it has a client-certificate, and no client-key");
    ensure!(has_certificate || !has_key, "it has a client-key, and no client-certificate");
    if let Some(exec) = &mut user.exec {
        ensure!(exec.command.as_ref().is_some_and(|command| !command.is_empty()), "its exec plugin has no command");
        if exec.provide_cluster_info {
            exec.cluster = Some(cluster.try_into()?);
        }
    }
    Ok(user)
}

fn of_cluster(cluster: &Cluster, user: &AuthInfo, proxies: &Environment) -> anyhow::Result<kube::Config> {
    let authority = (&cluster.certificate_authority_data, &cluster.certificate_authority);
    let authority = bytes("certificate-authority", authority.0.as_deref(), authority.1.as_deref())?;
    let insecure = cluster.insecure_skip_tls_verify.unwrap_or(false);
    let tls =
        authority.is_some() || insecure || user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let server = cluster.server.as_deref().context("it has no server: write its address, such as https://HOST:6443")?;
    let mut kube = kube::Config::new(
        address(server, tls)
            .with_context(|| format!("server \"{server}\" is no address: write one such as https://HOST:6443"))?,
    );
    kube.root_cert = authority.map(|(pem, whose)| certificates(&pem).with_context(|| whose)).transpose()?;
    kube.accept_invalid_certs = insecure;
    kube.disable_compression = cluster.disable_compression.unwrap_or(false);
    kube.tls_server_name.clone_from(&cluster.tls_server_name);
    // As in client-go, NO_PROXY is about the environment's proxies alone.
    kube.proxy_url = match &cluster.proxy_url {
        Some(url) => Some(proxy::url(url).with_context(|| {
            format!(
                "proxy-url \"{url}\" is no proxy: write an address such as http://HOST:3128, https://… or socks5://…"
            )
        })?),
        None => proxies.of(&kube.cluster_url)?,
    };
    Ok(kube)
}

/// As client-go has it, an address without a scheme is one of https if anything is said about TLS, else of http.
fn address(server: &str, tls: bool) -> Option<Uri> {
    let has_scheme = server.contains("://");
    let scheme = if tls { "https" } else { "http" };
    let text = if has_scheme { server.to_owned() } else { format!("{scheme}://{server}") };
    let uri: Uri = text.parse().ok()?;
    let is_plain = has_scheme || uri.path() == "/";
    let fits = matches!(uri.scheme_str(), Some("http" | "https")) && is_plain && has_host(&uri);
    fits.then_some(uri)
}

/// It has a host, and where it has a port, one that there can be.
pub(super) fn has_host(uri: &Uri) -> bool {
    let Some((authority, host)) = uri.authority().zip(uri.host()) else { return false };
    let rest = authority.as_str().rsplit('@').next().and_then(|place| place.strip_prefix(host));
    !host.is_empty() && (rest == Some("") || uri.port_u16().is_some())
}

/// What `KEY-data`, or else the file of `KEY` holds, and which of the two it is.
fn bytes(key: &str, data: Option<&str>, file: Option<&str>) -> anyhow::Result<Option<(Vec<u8>, String)>> {
    if let Some(data) = data {
        let ByteString(bytes) = serde_json::from_value(data.into()).map_err(|_| anyhow!("{key}-data is not base64"))?;
        return Ok(Some((bytes, format!("{key}-data"))));
    }
    let Some(file) = file else { return Ok(None) };
    let whose = format!("{key} {file}");
    Ok(Some((std::fs::read(Path::new(file)).with_context(|| whose.clone())?, whose)))
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all.iter().map(|der| der.to_vec()).collect()),
        Ok(_) => bail!("there is no certificate (in PEM) in it"),
        Err(error) => bail!("it is not a certificate in PEM: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_one_of_https_where_tls_is_meant() {
        for (server, tls, uri) in [
            ("a:6443", false, Some("http://a:6443/")),
            ("a:6443", true, Some("https://a:6443/")),
            ("a", true, Some("https://a/")),
            ("[::1]:6443", true, Some("https://[::1]:6443/")),
            ("http://a:1", true, Some("http://a:1/")),
            ("https://a/k8s/clusters/c-1", false, Some("https://a/k8s/clusters/c-1")),
            ("HTTPS://a", false, Some("https://a/")),
            ("a:1/b", true, None),
            ("ftp://a", true, None),
            ("http://", true, None),
            ("http://a:99999", true, None),
            (":6443", true, None),
            ("a b", true, None),
        ] {
            assert_eq!(address(server, tls).map(|uri| uri.to_string()).as_deref(), uri, "{server}");
        }
    }
}
