//! What is sent to a token endpoint, and what its answers mean (RFC 6749).

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use url::form_urlencoded;

use super::super::settings::{AuthSettings, CredentialsStyle, OauthClient};
use super::{AuthError, Outcome};
use crate::secret::Secret;

/// How a token is asked for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    client: OauthClient,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Client(CredentialsStyle),
    Password { username: String, password: Secret },
}

/// What a token endpoint gave.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) access: Secret,
    /// How long it is good for; `None` until it is refused.
    pub(super) expires_in: Option<Duration>,
    /// Buys the next token without the password.
    pub(super) refresh: Option<Secret>,
}

/// A failed token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GrantError {
    /// The endpoint says no to what was sent: the same again would get the same answer.
    Refused(AuthError),
    /// There was no answer, or none that says anything about what was sent.
    Failed(AuthError),
}

/// The answer as it is sent.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    refresh_token: Option<String>,
}

/// Some endpoints write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

/// The answer that refuses a grant, as far as it may be shown: `error_description` may repeat what
/// was sent, so it is not read.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The errors that the standards name (RFC 6749 §4.1.2.1 and §5.2, RFC 8707), and what to do about
/// each. Only these words are shown, so that no answer can put another there.
const REFUSALS: [(&str, &str); 8] = [
    ("invalid_request", "check the keys of `auth` and its `token_url`"),
    ("invalid_client", "check `client_id`, `client_secret` and `client_credentials_type`"),
    ("invalid_grant", "check `username` and `password`"),
    ("unauthorized_client", "the client may not use this grant: check the `type` of `auth`"),
    ("unsupported_grant_type", "the endpoint has no such grant: check the `type` of `auth`"),
    ("invalid_scope", "the client has no scope by default: ask who runs the endpoint"),
    ("access_denied", "ask who runs the endpoint"),
    ("invalid_target", "ask who runs the endpoint"),
];

impl Grant {
    pub(super) fn new(settings: &AuthSettings) -> Result<Self, String> {
        let (client, kind) = match settings {
            AuthSettings::ClientCredentials { client, style } => (client, Kind::Client(*style)),
            AuthSettings::Password { client, username, password } => {
                let (username, password) = (username.clone(), password.clone());
                (client, Kind::Password { username, password })
            }
            AuthSettings::None | AuthSettings::Bearer { .. } => {
                return Err("this authentication asks for no token".to_owned());
            }
        };
        Ok(Self { client: client.clone(), kind })
    }

    /// Whether a refresh token is of use: who may ask with its own secret needs none.
    pub(super) const fn uses_refresh_tokens(&self) -> bool {
        matches!(self.kind, Kind::Password { .. })
    }

    /// Headers and form that ask for a token, with `refresh` instead of the password if there is one.
    pub(super) fn request(&self, refresh: Option<&Secret>) -> (HeaderMap, Secret) {
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut form = form_urlencoded::Serializer::new(String::new());
        match (&self.kind, refresh) {
            (Kind::Client(_), _) => form.append_pair("grant_type", "client_credentials"),
            (Kind::Password { .. }, Some(refresh)) => form
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", refresh.expose()),
            (Kind::Password { username, password }, None) => form
                .append_pair("grant_type", "password")
                .append_pair("username", username)
                .append_pair("password", password.expose()),
        };
        if matches!(self.kind, Kind::Client(CredentialsStyle::BasicAuthorization)) {
            headers.insert(AUTHORIZATION, self.basic());
        } else {
            form.append_pair("client_id", &self.client.client_id);
            form.append_pair("client_secret", self.client.client_secret.expose());
        }
        (headers, Secret::new(form.finish()))
    }

    /// `Basic`, id and secret form-urlencoded each before they are joined.
    fn basic(&self) -> HeaderValue {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let id: String = encoded(&self.client.client_id);
        let secret: String = encoded(self.client.client_secret.expose());
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
        let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// What `outcome` of a token request gave. The text of an error names no secret: it quotes the
    /// status and a word of the standard, not the answer, which may repeat what was sent.
    pub(super) fn token(outcome: &Outcome) -> Result<Token, GrantError> {
        let failed = |what: &str| GrantError::Failed(AuthError(format!("token endpoint: {what}")));
        let answer = match outcome {
            Outcome::Status { code: 200..=299, answer, .. } => answer,
            Outcome::Status { code, answer, .. } => return Err(refusal(*code, answer)),
            other => return Err(failed(&other.to_string())),
        };
        let answer: Answer = serde_json::from_slice(answer)
            .map_err(|_| failed("the answer is no JSON object with an access_token"))?;
        if answer.access_token.is_empty() {
            return Err(failed("the access_token is empty"));
        }
        if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(failed("the token is no bearer token"));
        }
        Ok(Token {
            access: Secret::new(answer.access_token),
            expires_in: answer.expires_in.and_then(Seconds::duration),
            refresh: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        })
    }
}

/// The error of a token endpoint that answered with `code`.
fn refusal(code: u16, answer: &[u8]) -> GrantError {
    let said = serde_json::from_slice::<Refusal>(answer).map(|refusal| refusal.error);
    let known = said.ok().and_then(|said| REFUSALS.iter().find(|(error, _)| *error == said));
    if let Some((error, help)) = known {
        let text = format!("token endpoint: {error} (status {code}); {help}");
        return GrantError::Refused(AuthError(text));
    }
    let error = AuthError(format!("token endpoint: status {code}"));
    match code {
        400 | 401 | 403 => GrantError::Refused(error),
        _ => GrantError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthError, Grant, GrantError};
    use crate::deliver::outcome::Outcome;
    use crate::deliver::settings::{AuthSettings, CredentialsStyle, OauthClient};
    use crate::secret::Secret;

    fn client() -> OauthClient {
        OauthClient {
            token_url: "http://127.0.0.1/token".parse().unwrap(),
            client_id: "my id".to_owned(),
            client_secret: Secret::new("s3cr:et/+&=é".to_owned()),
        }
    }

    #[test]
    fn each_grant_asks_as_the_standard_says() {
        let credentials = |style| AuthSettings::ClientCredentials { client: client(), style };
        let password = AuthSettings::Password {
            client: client(),
            username: "ann@x".to_owned(),
            password: Secret::new("p w".to_owned()),
        };
        let refresh = Secret::new("r&1".to_owned());
        let in_form = "client_id=my+id&client_secret=s3cr%3Aet%2F%2B%26%3D%C3%A9";
        let basic = "Basic bXkraWQ6czNjciUzQWV0JTJGJTJCJTI2JTNEJUMzJUE5";
        // (what it shows, settings, refresh token, Authorization, form)
        let cases = [
            (
                "id and secret in the form",
                credentials(CredentialsStyle::BodyFormEncoded),
                None,
                None,
                format!("grant_type=client_credentials&{in_form}"),
            ),
            (
                "id and secret in a header, encoded each",
                credentials(CredentialsStyle::BasicAuthorization),
                None,
                Some(basic),
                "grant_type=client_credentials".to_owned(),
            ),
            (
                "the owner's password",
                password.clone(),
                None,
                None,
                format!("grant_type=password&username=ann%40x&password=p+w&{in_form}"),
            ),
            (
                "a refresh token instead of it",
                password,
                Some(&refresh),
                None,
                format!("grant_type=refresh_token&refresh_token=r%261&{in_form}"),
            ),
        ];
        for (name, settings, refresh, authorization, form) in cases {
            let (headers, sent) = Grant::new(&settings).unwrap().request(refresh);
            assert_eq!(sent.expose(), form, "{name}");
            let header = headers.get("authorization").map(|value| value.to_str().unwrap());
            assert_eq!(header, authorization, "{name}");
        }
    }

    fn status(code: u16, body: &str) -> Outcome {
        Outcome::Status { code, retry_after: None, answer: body.as_bytes().to_vec() }
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        let ok = |body| status(200, body);
        // (what it shows, outcome, for how many seconds the token is good)
        let cases = [
            ("a token", ok(r#"{"access_token":"t","token_type":"bearer"}"#), Ok(None)),
            ("of no type", status(201, r#"{"access_token":"t","expires_in":3}"#), Ok(Some(3))),
            ("seconds as text", ok(r#"{"access_token":"t","expires_in":"3600"}"#), Ok(Some(3600))),
            ("seconds below zero", ok(r#"{"access_token":"t","expires_in":-5}"#), Ok(Some(0))),
            ("seconds that are none", ok(r#"{"access_token":"t","expires_in":"soon"}"#), Ok(None)),
            ("another type", ok(r#"{"access_token":"t","token_type":"mac"}"#), Err("no bearer")),
            ("an empty token", ok(r#"{"access_token":""}"#), Err("is empty")),
            ("no token", ok("{}"), Err("no JSON object")),
            ("no JSON", ok("<html>"), Err("no JSON object")),
            ("a redirect", status(302, ""), Err("status 302")),
            ("no endpoint", Outcome::Timeout, Err("timeout")),
        ];
        for (name, outcome, expected) in cases {
            match (Grant::token(&outcome), expected) {
                (Ok(token), Ok(seconds)) => {
                    assert_eq!(token.expires_in.map(|d| d.as_secs()), seconds, "{name}");
                }
                (Err(GrantError::Failed(AuthError(error))), Err(part)) => {
                    assert!(error.contains(part), "{name}: {error}");
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_is_named_and_shows_nothing_of_the_answer() {
        let echo = r#"{"error":"invalid_client","error_description":"s3cret is wrong"}"#;
        // (what it shows, status, answer, whether it is a refusal, what is said)
        let cases = [
            ("a word of the standard", 401, echo, true, "invalid_client (status 401); check"),
            ("whatever the status", 500, r#"{"error":"invalid_grant"}"#, true, "invalid_grant"),
            ("another word", 400, r#"{"error":"s3cret"}"#, true, "endpoint: status 400"),
            ("no JSON", 403, "s3cret", true, "endpoint: status 403"),
            ("a server that fails", 503, "s3cret", false, "endpoint: status 503"),
            ("one that is busy", 429, "{}", false, "endpoint: status 429"),
            ("no endpoint there", 404, "", false, "endpoint: status 404"),
        ];
        for (name, code, answer, is_refusal, part) in cases {
            let error = Grant::token(&status(code, answer)).unwrap_err();
            let (AuthError(text), refused) = match error {
                GrantError::Refused(error) => (error, true),
                GrantError::Failed(error) => (error, false),
            };
            assert_eq!(refused, is_refusal, "{name}");
            assert!(text.contains(part) && !text.contains("s3cret"), "{name}: {text}");
        }
    }
}
