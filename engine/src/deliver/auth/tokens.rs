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
    /// How many wait for the one who fetches.
    waiting: usize,
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
            state.waiting += 1;
            // The one who fetches has a deadline, so this ends.
            let state = self.fetched.wait_while(state, is_pending);
            let mut state = state.expect("no holder of the token panics");
            state.waiting -= 1;
            return state.last.clone().expect("a fetch that ended left its result");
        }
        state.is_fetching = true;
        let refresh = state.refresh.clone();
        drop(state);
        let result = self.fetch(refresh.as_ref());
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

    /// Asks with the refresh token if there is one, and with the password if that is refused. An
    /// endpoint that fails has not refused it, so it is kept.
    fn fetch(&self, refresh: Option<&Secret>) -> Result<Token, AuthError> {
        if let Some(refresh) = refresh {
            match self.ask(Some(refresh)) {
                Ok(token) => {
                    let refresh = token.refresh.or_else(|| Some(refresh.clone()));
                    return Ok(Token { refresh, ..token });
                }
                Err(GrantError::Failed(error)) => return Err(error),
                Err(GrantError::Refused(_)) => self.state().refresh = None,
            }
        }
        self.ask(None).map_err(|(GrantError::Refused(error) | GrantError::Failed(error))| error)
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
            state.refresh = token.refresh.filter(|_| self.grant.uses_refresh_tokens());
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;
    use std::time::Duration;

    use http::HeaderMap;

    use super::super::grant::Grant;
    use super::super::{AuthError, TokenEndpoint};
    use super::Tokens;
    use crate::deliver::hand_clock::HandClock;
    use crate::deliver::outcome::Outcome;
    use crate::deliver::settings::{AuthSettings, CredentialsStyle, OauthClient};
    use crate::secret::Secret;

    /// Answers as listed and remembers what it was asked.
    #[derive(Debug, Default)]
    struct Script {
        answers: Mutex<VecDeque<Outcome>>,
        asked: Mutex<Vec<String>>,
        /// Met by whoever waits for a request to be open.
        gate: Option<Barrier>,
    }

    impl TokenEndpoint for Script {
        fn post(&self, _: HeaderMap, form: &str) -> Outcome {
            let grant = form.split('&').take(2).collect::<Vec<_>>().join("&");
            self.asked.lock().unwrap().push(grant);
            if let Some(gate) = &self.gate {
                gate.wait();
                gate.wait();
            }
            self.answers.lock().unwrap().pop_front().expect("nothing more is asked")
        }
    }

    const CLIENT: &str = "grant_type=client_credentials&client_id=id";
    const PASSWORD: &str = "grant_type=password&username=ann";

    fn client() -> OauthClient {
        OauthClient {
            token_url: "http://127.0.0.1/token".parse().unwrap(),
            client_id: "id".to_owned(),
            client_secret: Secret::new("s".to_owned()),
        }
    }

    fn by_client() -> AuthSettings {
        let style = CredentialsStyle::BodyFormEncoded;
        AuthSettings::ClientCredentials { client: client(), style }
    }

    fn by_password() -> AuthSettings {
        let password = Secret::new("p".to_owned());
        AuthSettings::Password { client: client(), username: "ann".to_owned(), password }
    }

    fn answer(code: u16, body: &str) -> Outcome {
        Outcome::Status { code, retry_after: None, answer: body.as_bytes().to_vec() }
    }

    fn token(name: &str, more: &str) -> Outcome {
        answer(200, &format!("{{\"access_token\":\"{name}\"{more}}}"))
    }

    struct Bench {
        tokens: Tokens,
        endpoint: Arc<Script>,
        clock: Arc<HandClock>,
    }

    impl Bench {
        fn new(settings: &AuthSettings, answers: impl IntoIterator<Item = Outcome>) -> Self {
            let answers = Mutex::new(answers.into_iter().collect());
            Self::at(settings, Script { answers, ..Script::default() })
        }

        fn at(settings: &AuthSettings, script: Script) -> Self {
            let (endpoint, clock) = (Arc::new(script), Arc::new(HandClock::default()));
            let grant = Grant::new(settings).unwrap();
            let tokens = Tokens::new(grant, endpoint.clone(), clock.clone());
            Self { tokens, endpoint, clock }
        }

        /// The token that is used now, or the error.
        fn now(&self) -> String {
            match self.tokens.authorization() {
                Ok(authorization) => authorization.value.to_str().unwrap().to_owned(),
                Err(AuthError(error)) => error,
            }
        }

        fn refuse(&self) {
            let authorization = self.tokens.authorization().unwrap();
            self.tokens.refused(authorization.generation);
        }

        fn asked(&self) -> Vec<String> {
            self.endpoint.asked.lock().unwrap().clone()
        }
    }

    #[test]
    fn a_token_is_used_until_half_a_minute_before_its_end() {
        let with = |name| token(name, ",\"expires_in\":100");
        let bench = Bench::new(&by_client(), [with("a"), with("b")]);
        assert_eq!(bench.now(), "Bearer a");
        bench.clock.pass(Duration::from_millis(69_999));
        assert_eq!(bench.now(), "Bearer a");
        bench.clock.pass(Duration::from_millis(1));
        assert_eq!(bench.now(), "Bearer b");
        assert_eq!(bench.asked(), [CLIENT, CLIENT]);
    }

    #[test]
    fn a_token_without_an_end_is_used_until_it_is_refused() {
        let bench = Bench::new(&by_client(), [token("a", ""), token("b", "")]);
        let first = bench.tokens.authorization().unwrap();
        bench.clock.pass(Duration::from_hours(1000));
        assert_eq!(bench.now(), "Bearer a");
        bench.tokens.refused(first.generation);
        assert_eq!(bench.now(), "Bearer b");
        bench.tokens.refused(first.generation);
        assert_eq!(bench.now(), "Bearer b", "a late refusal of the old one costs nothing");
    }

    #[test]
    fn a_refresh_token_is_used_until_it_is_refused() {
        let refused = answer(400, r#"{"error":"invalid_grant"}"#);
        let answers = [
            token("a", ",\"refresh_token\":\"r1\""),
            answer(503, ""),
            token("b", ""),
            token("c", ",\"refresh_token\":\"r2\""),
            refused,
            token("d", ""),
            token("e", ""),
        ];
        let bench = Bench::new(&by_password(), answers);
        let mut got = vec![bench.now()];
        bench.refuse();
        got.push(bench.now());
        for _ in 0..4 {
            got.push(bench.now());
            bench.refuse();
        }
        let failed = "token endpoint: status 503";
        assert_eq!(got, ["Bearer a", failed, "Bearer b", "Bearer c", "Bearer d", "Bearer e"]);
        let refresh = |name: &str| format!("grant_type=refresh_token&refresh_token={name}");
        let (r1, r2) = (refresh("r1"), refresh("r2"));
        assert_eq!(bench.asked(), [PASSWORD, &r1, &r1, &r1, &r2, PASSWORD, PASSWORD]);
    }

    #[test]
    fn a_client_that_asks_for_itself_needs_no_refresh_token() {
        let with = |name| token(name, ",\"refresh_token\":\"r\"");
        let bench = Bench::new(&by_client(), [with("a"), answer(401, ""), with("b")]);
        bench.refuse();
        assert_eq!(bench.now(), "token endpoint: status 401", "and it asks once");
        assert_eq!(bench.now(), "Bearer b");
    }

    #[test]
    fn whoever_comes_during_a_fetch_gets_what_it_gets() {
        const OTHERS: usize = 7;
        for (given, expected) in
            [(token("a", ""), "Bearer a"), (answer(500, ""), "token endpoint: status 500")]
        {
            let gate = Some(Barrier::new(2));
            let script = Script { answers: Mutex::new([given].into()), gate, ..Script::default() };
            let bench = Bench::at(&by_client(), script);
            thread::scope(|scope| {
                let mut all = vec![scope.spawn(|| bench.now())];
                let gate = bench.endpoint.gate.as_ref().unwrap();
                gate.wait();
                all.extend((0..OTHERS).map(|_| scope.spawn(|| bench.now())));
                while bench.tokens.state().waiting < OTHERS {
                    thread::yield_now();
                }
                gate.wait();
                for one in all {
                    assert_eq!(one.join().unwrap(), expected);
                }
            });
            assert_eq!(bench.asked(), [CLIENT]);
        }
    }
}
