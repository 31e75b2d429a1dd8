//! TLS with a certification authority of our own.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::error::Error;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A certificate, its key, and what made it.
#[derive(Clone)]
pub struct Tls {
    /// Takes connections with it.
    pub acceptor: TlsAcceptor,
    /// The authority's certificate in PEM, in base64, as a kubeconfig has it.
    pub authority: String,
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its key (ECDSA P-256, PKCS #8), in PEM.
    pub key: String,
}

impl Tls {
    /// A certificate for these names (DNS names or IP addresses), signed by an authority made for it.
    ///
    /// # Errors
    /// When a name is none, or there is no randomness.
    pub fn new(names: &[&str]) -> Result<Tls, Box<dyn Error>> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(rcgen::DnType::CommonName, "standin authority");
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;

        let pem = (certificate.pem(), key.serialize_pem());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authority: base64::engine::general_purpose::STANDARD.encode(authority_pem),
            certificate: pem.0,
            key: pem.1,
        })
    }
}
