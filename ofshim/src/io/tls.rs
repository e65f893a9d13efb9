//! The controller's side of TLS: its key and certificate, and the CAs that vouch for switches.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};

/// The three files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The key of the certificate.
    pub key: &'a Path,
    /// The certificate, and those in between to its CA.
    pub cert: &'a Path,
    /// The CAs that vouch for switches.
    pub ca: &'a Path,
}

/// How PEM names an encrypted key (RFC 7468, 11; RFC 1421, 4.6).
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

/// Takes the files: who connects has to show a certificate that one of the CAs signed. TLS 1.2 and 1.3.
///
/// # Errors
/// A file cannot be read, holds something else, or does not fit the others. One line that names it.
pub fn acceptor(files: Files<'_>) -> anyhow::Result<TlsAcceptor> {
    let key = key(files.key)?;
    let chain = certificates("--tls-cert", files.cert)?;
    let ca = files.ca.display();
    let mut roots = RootCertStore::empty();
    for root in certificates("--tls-ca", files.ca)? {
        roots
            .add(root)
            .map_err(|error| anyhow!("--tls-ca {ca}: a certificate in it is of no use: {error}"))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| anyhow!("--tls-ca {ca}: {error}"))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => anyhow!(
                "--tls-key {} is not the key of the first certificate in --tls-cert {}",
                files.key.display(),
                files.cert.display()
            ),
            other => anyhow!(
                "--tls-key {} and --tls-cert {} are of no use: {other}",
                files.key.display(),
                files.cert.display()
            ),
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| anyhow!("{option} {} cannot be read: {error}", path.display()))
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let bytes = read("--tls-key", path)?;
    let text = String::from_utf8_lossy(&bytes);
    let path = path.display();
    if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
        bail!(
            "--tls-key {path}: the key is encrypted; write it without a password: openssl pkey -in {path} -out PLAIN.pem"
        );
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        anyhow!(
            "--tls-key {path}: there is no private key in PEM form in it (\"-----BEGIN PRIVATE KEY-----\")"
        )
    })
}

fn certificates(option: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bytes = read(option, path)?;
    let path = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| anyhow!("{option} {path}: its PEM form is broken: {error}"))?;
    if found.is_empty() {
        bail!("{option} {path}: there is no certificate in PEM form in it (\"-----BEGIN CERTIFICATE-----\")");
    }
    Ok(found)
}
