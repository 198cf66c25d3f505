//! How requests authenticate: not at all, with a fixed token, or with one fetched by OAuth2.

mod grant;
mod tokens;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use self::grant::Grant;
use self::tokens::Tokens;
use super::outcome::Outcome;
use super::settings::AuthSettings;
use crate::clock::Clock;
use crate::secret::Secret;

/// Where tokens come from. The second implementation is the tests'.
pub trait TokenEndpoint: Send + Sync + fmt::Debug {
    /// Posts a form; the outcome holds the whole answer.
    fn post(&self, headers: HeaderMap, form: &str) -> Outcome;

    /// Ends the requests that are open, and lets no other start.
    fn abort(&self) {}
}

/// No authorization could be had; counts as a connection error. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError(pub String);

/// The value of an `Authorization` header.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// The value; marked sensitive.
    pub value: HeaderValue,
    /// Which token of those fetched it holds.
    generation: u64,
}

/// One destination's authentication, shared by its senders.
#[derive(Debug)]
pub struct Auth(Kind);

#[derive(Debug)]
enum Kind {
    None,
    Bearer(Authorization),
    Oauth(Box<Tokens>),
}

impl Auth {
    /// Prepares. `endpoint` is needed for OAuth2.
    pub fn new(
        settings: &AuthSettings,
        endpoint: Option<Arc<dyn TokenEndpoint>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        Ok(Self(match (settings, endpoint) {
            (AuthSettings::None, _) => Kind::None,
            (AuthSettings::Bearer { token }, _) => {
                Kind::Bearer(Authorization { value: bearer(token)?, generation: 0 })
            }
            (_, None) => return Err("OAuth2 needs a token endpoint".to_owned()),
            (settings, Some(endpoint)) => {
                let grant = Grant::new(settings)?;
                Kind::Oauth(Box::new(Tokens::new(grant, endpoint, clock)))
            }
        }))
    }

    /// What to authorize the next request with; fetches a token if there is none.
    pub fn authorization(&self) -> Result<Option<Authorization>, AuthError> {
        match &self.0 {
            Kind::None => Ok(None),
            Kind::Bearer(authorization) => Ok(Some(authorization.clone())),
            Kind::Oauth(tokens) => tokens.authorization().map(Some),
        }
    }

    /// The endpoint answered 401 to `authorization`; it is not used again.
    pub fn refused(&self, authorization: &Authorization) {
        if let Kind::Oauth(tokens) = &self.0 {
            tokens.refused(authorization.generation);
        }
    }

    /// Ends an open token request.
    pub fn abort(&self) {
        if let Kind::Oauth(tokens) = &self.0 {
            tokens.abort();
        }
    }
}

/// `Bearer TOKEN`, refused if the token cannot stand in a header.
fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| "the token has characters that a header may not have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
