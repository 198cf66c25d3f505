//! Certificates made for a test.

use std::path::PathBuf;

use forebay_tests::Place;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Signs certificates.
pub(crate) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

/// When a certificate holds.
#[derive(Clone, Copy)]
pub(crate) enum Term {
    Now,
    Past,
    Future,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.self_signed(&key).expect("a key signs");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, which may be an address.
    pub(crate) fn identity(&self, name: &str, term: Term) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is one");
        let (from, to) = match term {
            Term::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
            Term::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1)),
            Term::Future => (date_time_ymd(2119, 1, 1), date_time_ymd(2120, 1, 1)),
        };
        (params.not_before, params.not_after) = (from, to);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("a key signs");
        Identity { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// Writes its certificate beside the configuration.
    pub(crate) fn write(&self, place: &Place, name: &str) -> PathBuf {
        place.write(name, &self.pem)
    }
}

impl Identity {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key is one")
    }

    /// Writes certificate and key beside the configuration, as `client.pem` and `client.key`.
    pub(crate) fn write(&self, place: &Place) {
        place.write("client.pem", &self.pem);
        place.write("client.key", self.key.serialize_pem());
    }
}
