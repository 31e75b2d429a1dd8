//! TLS, seen by a client that checks certificates.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::Engine;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use standin::Standin;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// The answer to GET /readyz, if the certificate is good for 127.0.0.1.
fn readyz(standin: &Standin) -> std::io::Result<String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(standin.authority().unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(standin.address())?;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text); // hyper closes without close_notify at times
    Ok(text)
}

#[test]
fn https_with_an_authority_of_its_own() {
    let standin = Standin::start_tls();
    assert!(standin.url().starts_with("https://127.0.0.1:"));
    assert!(standin.kubeconfig().contains("certificate-authority-data: LS0t"));
    assert!(readyz(&standin).unwrap().ends_with("ok"));
    assert_eq!((standin.connections(), standin.handshakes()), (1, 1));
}

#[test]
fn a_certificate_for_a_wrong_name() {
    let standin = Standin::start_tls_as(&["elsewhere.example"]);
    assert!(readyz(&standin).is_err());
    assert_eq!(standin.requests().len(), 0);
    assert_eq!(standin.connections(), 1);
}
