//! What delivery is told about destinations and dataflows: the checked form of their configuration.
//!
//! Everything here was validated where the configuration is read; what only the network can tell
//! (an address, a certificate) is checked where it is used. Defaults are the ones of `SPEC.md` §8.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

/// Timeout of one request, connecting included.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that one dataflow may start in any second.
pub const DEFAULT_MAX_REQUESTS_PER_SECOND: u32 = 10_000;
/// Requests that one dataflow may have open.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 64;
/// Consecutive failures that pause a destination.
pub const DEFAULT_BREAKER_FAILURES: u32 = 20;
/// How long a paused destination rests before its first probe.
pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// One HTTP endpoint and how it wants to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSettings {
    /// The id in the configuration.
    pub id: String,
    /// Where exports are posted, with the destination's query parameters appended.
    pub endpoint: Url,
    /// Headers sent with every request.
    pub headers: Vec<(String, HeaderText)>,
    /// Timeout of connect and whole exchange.
    pub timeout: Duration,
    /// Requests each dataflow may start in any second; at least 1.
    pub max_requests_per_second: u32,
    /// Requests each dataflow may have open; at least 1.
    pub max_in_flight: usize,
    /// When a failed attempt is repeated.
    pub retry: RetrySettings,
    /// Consecutive failed attempts that pause the destination; at least 1.
    pub breaker_failures: u32,
    /// How long the pause lasts before the first probe.
    pub probe_interval: Duration,
    /// How requests authenticate.
    pub auth: AuthSettings,
    /// Key of the Standard Webhooks signature: `whsec_` and base64.
    pub signing_secret: Option<Secret>,
    /// PEM file of the authorities to trust instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate shown to the endpoint.
    pub client_cert: Option<PathBuf>,
    /// PEM file of that certificate's key.
    pub client_key: Option<PathBuf>,
    /// Local address that connections are made from.
    pub source_address: Option<IpAddr>,
    /// Whether and where plain or internal endpoints are allowed.
    pub reach: Reach,
}

impl DestinationSettings {
    /// The destination `id` at `endpoint`, everything else at its default.
    pub fn new(id: impl Into<String>, endpoint: Url) -> Self {
        Self {
            id: id.into(),
            endpoint,
            headers: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_requests_per_second: DEFAULT_MAX_REQUESTS_PER_SECOND,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            retry: RetrySettings::default(),
            breaker_failures: DEFAULT_BREAKER_FAILURES,
            probe_interval: DEFAULT_PROBE_INTERVAL,
            auth: AuthSettings::None,
            signing_secret: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            source_address: None,
            reach: Reach::default(),
        }
    }

    /// Whether files belong to it, which may be others under the same names.
    pub fn names_files(&self) -> bool {
        self.ca_file.is_some() || self.client_cert.is_some() || self.client_key.is_some()
    }
}

/// What of the network a destination may use beyond `https` to public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `http://` is allowed.
    pub allow_insecure: bool,
    /// Private, link-local, loopback and other internal addresses are allowed.
    pub allow_private: bool,
}

/// The value of a configured header, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// May be shown.
    Plain(String),
    /// May not.
    Secret(Secret),
}

impl HeaderText {
    /// The value as it is sent.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// When a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts after the first.
    pub max_retries: u32,
    /// Waits before the first, second, ... retry; the last one repeats.
    pub backoff: Vec<Duration>,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { max_retries: 2, backoff: vec![Duration::from_secs(15), Duration::from_secs(30)] }
    }
}

/// How requests authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthSettings {
    /// Not at all.
    None,
    /// With a fixed token.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// OAuth2, client credentials grant.
    ClientCredentials {
        /// Who asks where.
        client: OauthClient,
        /// How the client's id and secret are sent.
        style: CredentialsStyle,
    },
    /// OAuth2, resource owner password grant.
    Password {
        /// Who asks where; id and secret go in the form.
        client: OauthClient,
        /// The owner's name.
        username: String,
        /// The owner's password.
        password: Secret,
    },
}

impl AuthSettings {
    /// The word in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer { .. } => "bearer",
            Self::ClientCredentials { .. } => "oauth2_client_credentials",
            Self::Password { .. } => "oauth2_password",
        }
    }
}

/// An OAuth2 client and its token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthClient {
    /// The token endpoint.
    pub token_url: Url,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
}

/// Where a token request carries the client's id and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsStyle {
    /// In the form.
    BodyFormEncoded,
    /// In a Basic `Authorization` header, each form-urlencoded.
    BasicAuthorization,
}

/// One dataflow, as far as delivery is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataflowSettings {
    /// The id in the configuration.
    pub id: String,
    /// Id of the destination it sends to.
    pub destination: String,
    /// Whether it only stores its exports.
    pub sending: Sending,
    /// Which waiting exports of a profile are sent.
    pub waiting: Waiting,
}

impl DataflowSettings {
    /// The dataflow `id` to `destination`, sending all its exports.
    pub fn new(id: impl Into<String>, destination: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            destination: destination.into(),
            sending: Sending::On,
            waiting: Waiting::All,
        }
    }
}

/// Whether a dataflow sends (`paused` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Exports are sent.
    On,
    /// Exports are stored and nothing is sent.
    Paused,
}

/// Which waiting exports of one profile are sent (`backlog` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Each of them, in order.
    All,
    /// Only the newest; the earlier ones collapse into it.
    Latest,
}
