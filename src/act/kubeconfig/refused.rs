//! Why no client can be made of a user's credentials: one line that names them, and nothing that is secret.

use anyhow::anyhow;
use kube::client::{AuthError, RustlsTlsError};
use kube::config::{AuthInfo, ExecConfig};

use crate::ground::text::{chain, shortened};

/// What to do about a key or a certificate that cannot be used.
const PLAIN: &str = "give a key without a passphrase (`openssl pkey -in KEY -out NEW`)";

/// kube's error in the words of the kubeconfig.
#[must_use]
pub fn explained(error: &kube::Error, kube: &kube::Config) -> anyhow::Error {
    let user = &kube.auth_info;
    match (error, &user.exec) {
        (kube::Error::Auth(AuthError::AuthExecStart(error)), Some(exec)) => {
            let hint = exec.install_hint.as_deref().map(one_line).filter(|hint| !hint.is_empty());
            let hint = hint.map_or_else(String::new, |hint| format!(" (installHint: {hint})"));
            anyhow!("{} cannot be run: {error}{hint}", named(exec))
        }
        (kube::Error::Auth(AuthError::AuthExecRun { out, .. }), Some(exec)) => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim().lines().last().map_or_else(String::new, |line| format!(": {}", shortened(line)));
            anyhow!("{} failed with {}{said}", named(exec), out.status)
        }
        (kube::Error::Auth(AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed), Some(exec)) => {
            anyhow!("{} gave no credentials: its output is no ExecCredential with a status", named(exec))
        }
        (kube::Error::RustlsTls(RustlsTlsError::AddRootCertificate(why)), _) if kube.root_cert.is_some() => {
            anyhow!("the certificate-authority of the kubeconfig's cluster cannot be used: {why}")
        }
        (kube::Error::RustlsTls(RustlsTlsError::AddRootCertificate(why)), _) => {
            anyhow!("no TLS without certificates to trust ({why}): name them as certificate-authority")
        }
        (kube::Error::RustlsTls(why), _) if !matches!(why, RustlsTlsError::InvalidServerName(_)) => {
            anyhow!("{} of the kubeconfig's user cannot be used: {}", identity(user), of_identity(why))
        }
        (kube::Error::RustlsTls(RustlsTlsError::InvalidServerName(why)), _) => anyhow!("tls-server-name: {why}"),
        _ => anyhow!("cannot make an API client: {}", one_line(&chain(error))),
    }
}

fn named(exec: &ExecConfig) -> String {
    format!("the exec plugin \"{}\" of the kubeconfig's user", exec.command.as_deref().unwrap_or_default())
}

/// Where certificate and key are.
fn identity(user: &AuthInfo) -> String {
    let place = |key: &str, has_data: bool, file: Option<&str>| match (has_data, file, &user.exec) {
        (true, ..) => format!("{key}-data"),
        (_, Some(file), _) => format!("{key} {file}"),
        (.., Some(exec)) => format!("the {key} of exec plugin \"{}\"", exec.command.as_deref().unwrap_or_default()),
        (.., None) => key.to_owned(),
    };
    let certificate =
        place("client-certificate", user.client_certificate_data.is_some(), user.client_certificate.as_deref());
    let key = place("client-key", user.client_key_data.is_some(), user.client_key.as_deref());
    format!("{certificate} with {key}")
}

/// rustls knows fewer kinds of certificates and keys than OpenSSL.
fn of_identity(why: &RustlsTlsError) -> String {
    match why {
        RustlsTlsError::MissingCertificate => "there is no certificate (BEGIN CERTIFICATE, in PEM) in it".into(),
        RustlsTlsError::MissingPrivateKey => {
            format!("there is no private key (BEGIN PRIVATE KEY, in PEM) in it, or it has a passphrase: {PLAIN}")
        }
        // The head of a key with a passphrase, in the old form, is no base64.
        RustlsTlsError::InvalidIdentityPem(why) => format!("it is not in PEM, or has a passphrase ({why}): {PLAIN}"),
        RustlsTlsError::UnknownPrivateKeyFormat => {
            "there is more in it than certificates and a private key: take the rest out".into()
        }
        RustlsTlsError::InvalidPrivateKey(why) => of_key(&why.to_string()),
        other => one_line(&other.to_string()),
    }
}

fn of_key(why: &str) -> String {
    if why.contains("UnsupportedCertVersion") {
        return "the certificate is of X.509 version 1: have it issued as version 3, with extensions (openssl x509 -req -extfile …)".into();
    }
    if why.contains("KeyMismatch") {
        return "the private key does not belong to the certificate".into();
    }
    if why.contains("failed to parse private key") {
        return "its kind of private key is not supported: have one issued for P-256, P-384, Ed25519, or RSA with 2048 to 8192 bits".into();
    }
    one_line(why)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
