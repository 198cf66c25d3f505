//! What TLS trusts and what it shows: authorities and the client certificate, from PEM files.
//!
//! Certificates are always verified; there is no switch to turn that off. What is in the files is
//! checked when they are read, because the client would ignore an authority that it cannot parse,
//! and panic over a key that does not belong to its certificate.

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::client::Peer;
use crate::deliver::settings::DestinationSettings;

/// The configuration for `peer`: only the endpoint is shown the client certificate.
pub(super) fn config(settings: &DestinationSettings, peer: Peer<'_>) -> Result<TlsConfig, String> {
    let mut builder = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    if let Some(path) = &settings.ca_file {
        builder = builder.root_certs(RootCerts::new_with_certs(&authorities(path)?));
    }
    let pair = (&settings.client_cert, &settings.client_key, peer);
    if let (Some(chain), Some(key), Peer::Endpoint) = pair {
        builder = builder.client_cert(Some(client_certificate(chain, key)?));
    }
    Ok(builder.build())
}

/// The authorities in the file at `path`; there is at least one, and each can be used.
pub(crate) fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let found = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &found {
        let added = store.add(CertificateDer::from(certificate.der()));
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(found)
}

/// The certificate chain in one file with its key in the other.
pub(crate) fn client_certificate(chain: &Path, key: &Path) -> Result<ClientCert, String> {
    let certificates = certificates(chain)?;
    let private = PrivateKey::from_pem(&read(key)?)
        .map_err(|_| format!("{} holds no private key in PEM", key.display()))?;
    let of_chain = certificates.iter().map(|one| CertificateDer::from(one.der().to_vec()));
    let of_key = PrivateKeyDer::try_from(private.der().to_vec())
        .map_err(|_| format!("{} holds no key that can be used", key.display()))?;
    CertifiedKey::from_der(of_chain.collect(), of_key, &ring::default_provider()).map_err(
        |error| format!("{} and {} do not fit: {error}", chain.display(), key.display()),
    )?;
    Ok(ClientCert::new_with_certs(&certificates, private))
}

/// What `error` says, and what to do about it where that can be said.
pub(super) fn described(error: &io::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let help = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; name its authority in `ca_file` if it is to be trusted"
        }
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "; set `client_cert` and `client_key`"
        }
        _ => "",
    };
    format!("{error}{help}")
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in parse_pem(&read(path)?) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| format!("{}: {error}", path.display()))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
