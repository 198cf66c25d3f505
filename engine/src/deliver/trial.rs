//! One request outside any dataflow: does a destination take what it would be sent?
//!
//! It is made as an export's is (headers, query, authentication, signature, TLS, checks of the address)
//! and sent once: no retry, no rate, no breaker, nothing stored. A receiver can tell it by its header
//! `forebay-test: true` and its `webhook-id`, which begins with `forebay-test-` and is shorter than the
//! id of any export; it has no `forebay-dataflow` and no `forebay-sequence`.
//!
//! What is shown holds no secret: what the configuration marks as one, and what is named like one, is
//! replaced, in what was sent and in what came back.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use url::Url;

use super::error::DeliveryError;
use super::outcome::Outcome;
use super::request::{Request, sample};
use super::settings::{AuthSettings, DestinationSettings, HeaderText};
use super::transport::{Exchange, HttpTransport, Times};
use crate::clock::{Clock, Timestamp};
use crate::views::{AnswerView, HeaderView, RequestView, TimingView, TrialView};

/// What stands for a secret.
const HIDDEN: &str = "[secret]";

/// Parts of names of headers and parameters whose values are taken for secrets.
const TELLING: [&str; 9] =
    ["auth", "code", "cookie", "key", "passw", "secret", "session", "sig", "token"];

/// Headers that are named like secrets and hold none.
const HARMLESS: [&str; 2] = ["webhook-signature", "www-authenticate"];

/// Sends the sample to a destination. An error says what is wrong with its settings.
pub fn try_out(
    settings: &DestinationSettings,
    clock: &Arc<dyn Clock>,
) -> Result<TrialView, DeliveryError> {
    let unusable = |reason| DeliveryError::Destination { destination: settings.id.clone(), reason };
    let wall = clock.now();
    let body = payload(wall);
    let request = sample(settings, body.as_bytes().into(), wall).map_err(unusable)?;
    let exchange = HttpTransport::try_out(settings, &request, clock).map_err(unusable)?;
    let mask = Mask::new(settings, exchange.authorization.as_ref());
    let sent = request_view(&request, (settings, exchange.authorization.as_ref()), &mask);
    Ok(view(settings, sent, &exchange, &mask))
}

/// `url` as it may be shown: values of parameters that are named like secrets are replaced.
pub fn shown_url(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    format!("{bare}{}", shown_query(url))
}

/// The query with its question mark; nothing if there is none.
fn shown_query(url: &Url) -> String {
    let Some(query) = url.query() else { return String::new() };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if is_telling(name) => format!("{name}={HIDDEN}"),
        _ => part.to_owned(),
    });
    format!("?{}", parts.collect::<Vec<_>>().join("&"))
}

/// A profile that no one has, in an audience that no one defined, of the form of every payload.
fn payload(wall: Timestamp) -> String {
    format!(
        "{{\"person\":{{\"name\":{{\"firstName\":\"Test\"}}}},\"segmentMembership\":{{\"ups\":\
         {{\"forebay-test\":{{\"lastQualificationTime\":\"{}\",\"status\":\"realized\"}}}}}},\
         \"identityMap\":{{\"forebay-test\":[{{\"id\":\"forebay-test\"}}]}}}}",
        wall.to_seconds_text()
    )
}

fn request_view(
    request: &Request,
    (settings, authorization): (&DestinationSettings, Option<&HeaderValue>),
    mask: &Mask,
) -> RequestView {
    let url = &settings.endpoint;
    let host = request.uri.authority().map_or("", |authority| authority.as_str());
    let length = request.body.len().to_string();
    let mut headers = vec![header_view("host", host), header_view("content-length", &length)];
    headers.extend(mask.headers(&request.headers));
    if authorization.is_some() {
        headers.push(header_view("authorization", &format!("Bearer {HIDDEN}")));
    }
    let body = String::from_utf8_lossy(&request.body).into_owned();
    RequestView {
        line: format!("POST {}{} HTTP/1.1", url.path(), shown_query(url)),
        url: shown_url(url),
        headers,
        body: RawValue::from_string(body).expect("the sample is JSON"),
    }
}

fn view(
    settings: &DestinationSettings,
    sent: RequestView,
    exchange: &Exchange,
    mask: &Mask,
) -> TrialView {
    let (answer, error) = match &exchange.outcome {
        Outcome::Status { code, answer, .. } => {
            let body = mask.text(&String::from_utf8_lossy(answer));
            let headers = mask.headers(&exchange.headers);
            (Some(AnswerView { status: *code, headers, body }), None)
        }
        Outcome::Timeout | Outcome::Connect(_) | Outcome::Refused(_) => {
            (None, Some(mask.text(&exchange.outcome.to_string())))
        }
    };
    TrialView {
        destination: settings.id.clone(),
        ok: matches!(exchange.outcome, Outcome::Status { code: 200..=299, .. }),
        request: sent,
        answer,
        error,
        timing_ms: timing_view(exchange.times, settings),
    }
}

/// Steps that every exchange passes through and that only some need are told of those only.
fn timing_view(times: Times, settings: &DestinationSettings) -> TimingView {
    let fetches = !matches!(settings.auth, AuthSettings::None | AuthSettings::Bearer { .. });
    let is_secured = settings.endpoint.scheme() == "https";
    let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
    let total = times.token.unwrap_or_default() + times.exchange.unwrap_or_default();
    TimingView {
        token: times.token.filter(|_| fetches).map(ms),
        resolve: times.resolve.map(ms),
        connect: times.connect.map(ms),
        tls: times.tls.filter(|_| is_secured).map(ms),
        total: ms(total),
    }
}

fn header_view(name: &str, value: &str) -> HeaderView {
    HeaderView { name: name.to_owned(), value: value.to_owned() }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str()) && TELLING.iter().any(|part| name.contains(part))
}

/// Takes a destination's secrets out of what is shown.
struct Mask(Vec<String>);

impl Mask {
    fn new(settings: &DestinationSettings, authorization: Option<&HeaderValue>) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        for (_, text) in &settings.headers {
            if let HeaderText::Secret(secret) = text {
                secrets.push(secret.expose().to_owned());
            }
        }
        secrets.extend(settings.signing_secret.iter().map(|secret| secret.expose().to_owned()));
        match &settings.auth {
            AuthSettings::None => {}
            AuthSettings::Bearer { token } => secrets.push(token.expose().to_owned()),
            AuthSettings::ClientCredentials { client, .. } => {
                secrets.push(client.client_secret.expose().to_owned());
            }
            AuthSettings::Password { client, password, .. } => {
                secrets.push(client.client_secret.expose().to_owned());
                secrets.push(password.expose().to_owned());
            }
        }
        let token = authorization.and_then(|value| value.to_str().ok());
        secrets.extend(token.map(|token| token.trim_start_matches("Bearer ").to_owned()));
        secrets.retain(|secret| !secret.is_empty());
        // One secret may begin like another: the longest is replaced first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<HeaderView> {
        headers.iter().map(|(name, value)| self.header(name, value)).collect()
    }

    fn header(&self, name: &HeaderName, value: &HeaderValue) -> HeaderView {
        if value.is_sensitive() || is_telling(name.as_str()) {
            return header_view(name.as_str(), HIDDEN);
        }
        header_view(name.as_str(), &self.text(&String::from_utf8_lossy(value.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{shown_url, try_out};
    use crate::clock::{Clock, SystemClock};
    use crate::deliver::export_id::ExportId;
    use crate::deliver::receiver::{Receiver, Reply};
    use crate::deliver::settings::{
        AuthSettings, CredentialsStyle, DestinationSettings, HeaderText, OauthClient,
    };
    use crate::secret::Secret;
    use crate::views::TrialView;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn try_on(settings: &DestinationSettings) -> TrialView {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        try_out(settings, &clock).unwrap()
    }

    #[test]
    fn a_sample_is_told_from_every_export_and_shows_no_secret() {
        let receiver = Receiver::start(|_, seen| {
            let echo = seen.header("authorization").unwrap_or_default();
            let reply =
                format!("HTTP/1.1 202 Yes\r\nX-Echo: {echo}\r\nContent-Length: 8\r\n\r\nhunter2!");
            Reply::Text(reply)
        });
        let mut settings =
            DestinationSettings::new("sink", receiver.url("/in?tenant=acme&api_key=abc"));
        settings.headers = vec![
            ("X-Plain".to_owned(), HeaderText::Plain("plain".to_owned())),
            ("X-Hidden".to_owned(), HeaderText::Secret(secret("hunter2"))),
        ];
        settings.auth = AuthSettings::Bearer { token: secret("s3same") };
        settings.signing_secret = Some(secret("whsec_AAAA"));
        let trial = try_on(&settings);
        assert!(trial.ok);

        let seen = &receiver.seen()[0];
        let id = seen.header("webhook-id").unwrap();
        assert!(id.starts_with("forebay-test-") && ExportId::parse(id).is_none(), "{id}");
        assert_eq!(seen.header("forebay-test"), Some("true"));
        assert_eq!(
            (seen.header("forebay-dataflow"), seen.header("forebay-sequence")),
            (None, None)
        );
        assert_eq!(seen.header("authorization"), Some("Bearer s3same"));
        assert_eq!(seen.header("x-hidden"), Some("hunter2"));
        assert!(seen.header("webhook-signature").is_some());
        assert_eq!(seen.path(), "/in?tenant=acme&api_key=abc");

        let shown = serde_json::to_string(&trial).unwrap();
        for secret in ["s3same", "hunter2", "whsec_AAAA", "api_key=abc"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert_eq!(trial.request.line, "POST /in?tenant=acme&api_key=[secret] HTTP/1.1");
        let answer = trial.answer.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (202, "[secret]!"));
        assert!(trial.timing_ms.connect.is_some() && trial.timing_ms.total > 0.0);
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let refused = || Reply::Bytes("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n");
        let receiver = Receiver::start(move |_, _| refused());
        let nobody = DestinationSettings::new("sink", "http://127.0.0.1:1/".parse().unwrap());
        let plain = DestinationSettings::new("sink", receiver.url("/in"));
        let client = OauthClient {
            token_url: receiver.url("/token"),
            client_id: "id".to_owned(),
            client_secret: secret("s3cret"),
        };
        let style = CredentialsStyle::BodyFormEncoded;
        let auth = AuthSettings::ClientCredentials { client, style };
        let no_token = DestinationSettings { auth, ..plain.clone() };
        // (what it shows, settings, status, part of the error)
        let cases = [
            ("a refusal", &plain, Some(400), ""),
            ("nobody listens", &nobody, None, "127.0.0.1:1"),
            ("no token", &no_token, None, "token endpoint: status 400"),
        ];
        for (name, settings, status, error) in cases {
            let trial = try_on(settings);
            assert!(!trial.ok, "{name}");
            assert_eq!(trial.answer.map(|answer| answer.status), status, "{name}");
            assert!(trial.error.unwrap_or_default().contains(error), "{name}");
        }
        let silent = Receiver::start(|_, _| Reply::Bytes(""));
        let mut slow = DestinationSettings::new("sink", silent.url("/"));
        slow.timeout = Duration::from_millis(20);
        assert_eq!(try_on(&slow).error.as_deref(), Some("timeout"));
    }

    #[test]
    fn urls_are_shown_without_what_is_named_like_a_secret() {
        // (url, shown)
        let cases = [
            ("https://example.com/a", "https://example.com/a"),
            ("https://example.com/a?tenant=x&v=2", "https://example.com/a?tenant=x&v=2"),
            ("https://example.com:8443/?Token=x&v", "https://example.com:8443/?Token=[secret]&v"),
            ("http://[::1]:1/a?sig=%41%42#top", "http://[::1]:1/a?sig=[secret]"),
        ];
        for (url, shown) in cases {
            assert_eq!(shown_url(&url.parse().unwrap()), shown);
        }
    }
}
