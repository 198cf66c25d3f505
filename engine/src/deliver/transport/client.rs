//! The HTTP client of one peer, every setting of it set, and its errors as outcomes.

use std::error::Error;
use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Uri};
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::{Connector, RustlsConnector};
use url::Url;

use super::resolver::{self, AddressRefused, CachingResolver, Lookup};
use super::socket::{BUFFER_BYTES, Stale, TcpConnector};
use super::timing::{Stopwatch, Watched};
use super::tls;
use crate::clock::Clock;
use crate::deliver::outcome::Outcome;
use crate::deliver::retry_after;
use crate::deliver::settings::{DestinationSettings, Reach};

/// Bytes of an answer's body that are read; a longer one costs the connection.
const BODY_READ_MAX: u64 = 64 * 1024;

/// How long a connection may rest before it is closed from our side. Servers close theirs after
/// five seconds and more; a request sent into that moment would be a failed attempt.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// How long a connection is used. An endpoint that moved to another address is then found there
/// even if the old one goes on answering.
const AGE_MAX: Duration = resolver::TTL;

/// What clients share with the world around them.
pub(super) struct Network {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lookup: Arc<Lookup>,
    /// How long a connection is used.
    pub(super) age_max: Duration,
}

impl Network {
    /// The system's names.
    pub(super) fn real(clock: Arc<dyn Clock>) -> Self {
        let lookup = |target: &str| Ok(target.to_socket_addrs()?.collect());
        Self { clock, lookup: Arc::new(lookup), age_max: AGE_MAX }
    }
}

/// Whom the client talks to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer<'a> {
    /// The destination's endpoint, which may want to see a client certificate.
    Endpoint,
    /// The token endpoint, which may not.
    TokenEndpoint(&'a Url),
}

/// What is posted.
#[derive(Clone, Copy)]
pub(super) struct Post<'a> {
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) authorization: Option<&'a HeaderValue>,
    pub(super) body: &'a [u8],
}

impl<'a> Post<'a> {
    fn request(&self) -> http::Request<&'a [u8]> {
        let mut request = http::Request::new(self.body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(authorization) = self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// Posts to one peer, over connections it keeps.
pub(super) struct HttpClient {
    agent: Agent,
    clock: Arc<dyn Clock>,
}

impl HttpClient {
    /// Reads certificates and checks the peer's URL.
    pub(super) fn new(
        settings: &DestinationSettings,
        peer: Peer<'_>,
        network: &Network,
    ) -> Result<Self, String> {
        let config = checked_config(settings, peer)?;
        let connector = ().chain(tcp(settings, network)).chain(RustlsConnector::default());
        let agent = Agent::with_parts(config, connector, resolver(settings, network));
        Ok(Self { agent, clock: Arc::clone(&network.clock) })
    }

    /// A client of the endpoint whose steps `watch` measures.
    pub(super) fn watched(
        settings: &DestinationSettings,
        network: &Network,
        watch: &Arc<Stopwatch>,
    ) -> Result<Self, String> {
        let config = checked_config(settings, Peer::Endpoint)?;
        let connector =
            ().chain(Watched::connecting(tcp(settings, network), watch))
                .chain(Watched::securing(RustlsConnector::default(), watch));
        let resolver = Watched::resolving(resolver(settings, network), watch);
        let agent = Agent::with_parts(config, connector, resolver);
        Ok(Self { agent, clock: Arc::clone(&network.clock) })
    }

    /// Posts over a connection that cannot be stale; the answer's headers come along.
    pub(super) fn post_once(&self, post: Post<'_>) -> (Outcome, HeaderMap) {
        let ended = self.exchange(post.request());
        ended.unwrap_or_else(|error| (outcome(&error), HeaderMap::new()))
    }

    /// Posts; the outcome holds the first [`BODY_READ_MAX`] bytes of the answer's body.
    pub(super) fn post(&self, post: Post<'_>) -> Outcome {
        let ended = match self.exchange(post.request()) {
            // Over a new connection: the others that rest are likely to be closed too.
            Err(error) if is_caused_by::<Stale>(&error) => {
                let request = self.agent.configure_request(post.request());
                self.exchange(request.max_idle_age(Duration::ZERO).build())
            }
            ended => ended,
        };
        ended.map_or_else(|error| outcome(&error), |(outcome, _)| outcome)
    }

    /// Ends open requests and lets no other start.
    pub(super) fn abort(&self) {
        self.agent.clone().shutdown();
    }

    fn exchange(&self, request: http::Request<&[u8]>) -> Result<(Outcome, HeaderMap), ureq::Error> {
        let (head, body) = self.agent.run(request)?.into_parts();
        let now = self.clock.now();
        let code = head.status.as_u16();
        let retry_after = head.headers.get(RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after::parse(value, now));
        let mut answer = Vec::new();
        body.into_reader().take(BODY_READ_MAX).read_to_end(&mut answer)?;
        Ok((Outcome::Status { code, retry_after, answer }, head.headers))
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// The client's settings for a peer that may be requested.
fn checked_config(settings: &DestinationSettings, peer: Peer<'_>) -> Result<Config, String> {
    let url = match peer {
        Peer::Endpoint => &settings.endpoint,
        Peer::TokenEndpoint(url) => url,
    };
    check_scheme(url, settings.reach)?;
    Ok(config(settings, tls::config(settings, peer)?))
}

fn tcp(settings: &DestinationSettings, network: &Network) -> TcpConnector {
    TcpConnector { source_address: settings.source_address, age_max: network.age_max }
}

fn resolver(settings: &DestinationSettings, network: &Network) -> CachingResolver {
    let (clock, lookup) = (Arc::clone(&network.clock), Arc::clone(&network.lookup));
    CachingResolver::new(settings.reach, clock, lookup)
}

/// Whether `url` may be requested without asking its host first.
fn check_scheme(url: &Url, reach: Reach) -> Result<(), String> {
    let is_own = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        Some(url::Host::Domain(_)) => false,
        None => return Err("the URL names no host".to_owned()),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_own || reach.allow_insecure => Ok(()),
        "http" => Err("http:// needs allow_insecure = true".to_owned()),
        other => Err(format!("{other}:// is not supported")),
    }
}

fn config(settings: &DestinationSettings, tls: TlsConfig) -> Config {
    Agent::config_builder()
        .timeout_global(Some(settings.timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .max_response_header_size(BUFFER_BYTES)
        .max_idle_connections(settings.max_in_flight.saturating_mul(FLOWS_PER_DESTINATION))
        .max_idle_connections_per_host(settings.max_in_flight.saturating_mul(FLOWS_PER_DESTINATION))
        .max_idle_age(IDLE_MAX)
        .tls_config(tls)
        .build()
}

/// Dataflows of one destination whose connections may all rest at once.
const FLOWS_PER_DESTINATION: usize = 4;

/// What an error of the client means for the export.
fn outcome(error: &ureq::Error) -> Outcome {
    match error {
        ureq::Error::Timeout(_) => Outcome::Timeout,
        ureq::Error::Io(error) => Outcome::Connect(tls::described(error)),
        _ if is_caused_by::<AddressRefused>(error) => Outcome::Refused(error.to_string()),
        _ => Outcome::Connect(error.to_string()),
    }
}

fn is_caused_by<T: Error + 'static>(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(inner) if inner.is::<T>())
}
