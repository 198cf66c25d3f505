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
    /// The endpoint answered, and gave no token.
    Denied(AuthError),
    /// There was no answer.
    Unreached(AuthError),
}

/// The answer as it is sent.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
}

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
    /// status, not the answer, which may repeat what was sent.
    pub(super) fn token(outcome: &Outcome) -> Result<Token, GrantError> {
        let denied =
            |what: String| GrantError::Denied(AuthError(format!("token endpoint: {what}")));
        let answer = match outcome {
            Outcome::Status { code: 200..=299, answer, .. } => answer,
            Outcome::Status { code, .. } => return Err(denied(format!("status {code}"))),
            other => {
                return Err(GrantError::Unreached(AuthError(format!("token endpoint: {other}"))));
            }
        };
        let answer: Answer = serde_json::from_slice(answer)
            .map_err(|_| denied("the answer is no JSON object with an access_token".to_owned()))?;
        if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(denied("the token is no bearer token".to_owned()));
        }
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
        Ok(Token {
            access: Secret::new(answer.access_token),
            expires_in: answer.expires_in.and_then(seconds),
            refresh: answer.refresh_token.map(Secret::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Grant, GrantError};
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

    #[test]
    fn only_a_bearer_token_is_taken() {
        let status = |code, body: &str| Outcome::Status {
            code,
            retry_after: None,
            answer: body.as_bytes().to_vec(),
        };
        // (what it shows, outcome, whether it gives a token)
        let cases = [
            ("a token", status(200, r#"{"access_token":"t","token_type":"bearer"}"#), true),
            ("a token of no type", status(201, r#"{"access_token":"t","expires_in":3}"#), true),
            ("another type", status(200, r#"{"access_token":"t","token_type":"mac"}"#), false),
            ("no token", status(200, "{}"), false),
            ("no JSON", status(200, "<html>"), false),
            ("a refusal", status(400, r#"{"error":"invalid_client"}"#), false),
        ];
        for (name, outcome, expected) in cases {
            let token = Grant::token(&outcome);
            assert_eq!(token.is_ok(), expected, "{name}");
            assert!(!matches!(token, Err(GrantError::Unreached(_))), "{name}");
        }
        assert!(matches!(Grant::token(&Outcome::Timeout), Err(GrantError::Unreached(_))));
    }
}
