//! One token for all senders of a destination, in memory only.
//!
//! A sender that finds no token fetches one, while the others wait for it: they get its token, or
//! its error, and none asks a second time. The lock is not held while the endpoint is asked.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::grant::{Grant, GrantError, Token};
use super::{AuthError, Authorization, TokenEndpoint, bearer};
use crate::clock::{Clock, Moment};
use crate::secret::Secret;

/// How long before its end a token is not used any more.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);

/// A token and how to get the next.
pub(super) struct Tokens {
    grant: Grant,
    endpoint: Arc<dyn TokenEndpoint>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    fetched: Condvar,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    refresh: Option<Secret>,
    is_fetching: bool,
    /// Fetches ended so far; the number of the token they gave.
    fetches: u64,
    /// How the last one ended, for those who waited for it.
    last: Option<Result<Authorization, AuthError>>,
}

#[derive(Debug)]
struct Current {
    authorization: Authorization,
    /// When it is not used any more; `None` until it is refused.
    until: Option<Moment>,
}

impl Tokens {
    pub(super) fn new(
        grant: Grant,
        endpoint: Arc<dyn TokenEndpoint>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { grant, endpoint, clock, state: Mutex::default(), fetched: Condvar::new() }
    }

    /// The token, fetched if there is none that can be used.
    pub(super) fn authorization(&self) -> Result<Authorization, AuthError> {
        let mut state = self.state();
        let now = self.clock.moment();
        if let Some(current) = &state.current
            && current.until.is_none_or(|until| now < until)
        {
            return Ok(current.authorization.clone());
        }
        if state.is_fetching {
            let before = state.fetches;
            let is_pending = |state: &mut State| state.fetches == before;
            // The one who fetches has a deadline, so this ends.
            let state = self.fetched.wait_while(state, is_pending);
            let state = state.expect("no holder of the token panics");
            return state.last.clone().expect("a fetch that ended left its result");
        }
        state.is_fetching = true;
        let refresh = state.refresh.take();
        drop(state);
        let result = self.fetch(refresh);
        self.finish(result)
    }

    /// Drops the token of that number, unless it was replaced already.
    pub(super) fn refused(&self, generation: u64) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|c| c.authorization.generation == generation) {
            state.current = None;
        }
    }

    pub(super) fn abort(&self) {
        self.endpoint.abort();
    }

    /// Asks with the refresh token if there is one, and with the password if that is refused.
    fn fetch(&self, refresh: Option<Secret>) -> Result<Token, AuthError> {
        if let Some(refresh) = refresh {
            match self.ask(Some(&refresh)) {
                Ok(token) => {
                    return Ok(Token { refresh: token.refresh.or(Some(refresh)), ..token });
                }
                Err(GrantError::Unreached(error)) => return Err(error),
                Err(GrantError::Denied(_)) => {}
            }
        }
        self.ask(None).map_err(|(GrantError::Denied(error) | GrantError::Unreached(error))| error)
    }

    fn ask(&self, refresh: Option<&Secret>) -> Result<Token, GrantError> {
        let (headers, form) = self.grant.request(refresh);
        Grant::token(&self.endpoint.post(headers, form.expose()))
    }

    fn finish(&self, result: Result<Token, AuthError>) -> Result<Authorization, AuthError> {
        let now = self.clock.moment();
        let mut state = self.state();
        state.is_fetching = false;
        state.fetches += 1;
        let generation = state.fetches;
        let result = result.and_then(|token| {
            let value = bearer(&token.access).map_err(AuthError)?;
            let authorization = Authorization { value, generation };
            let left = token.expires_in.map(|left| left.saturating_sub(EXPIRY_MARGIN));
            let until = left.map(|left| now.plus(left));
            state.current = Some(Current { authorization: authorization.clone(), until });
            state.refresh = token.refresh;
            Ok(authorization)
        });
        state.last = Some(result.clone());
        drop(state);
        self.fetched.notify_all();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the token panics")
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("grant", &self.grant).finish_non_exhaustive()
    }
}
