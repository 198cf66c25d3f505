//! Names to addresses, cached, and checked on every use.
//!
//! The client resolves before every request, on a thread of its own each time. Here a literal
//! address is no lookup, and a name is looked up once in [`TTL`] by one thread while the others wait
//! for it, no longer than their request's deadline.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::address::is_public;
use crate::clock::{Clock, Moment};
use crate::deliver::settings::Reach;

/// How long a lookup's answer is used.
pub(super) const TTL: Duration = Duration::from_secs(30);
/// Most addresses tried for one name; what the client's list holds.
const ADDRESSES_MAX: usize = 16;

/// Finds the addresses of `name:port`. The second implementation is the tests'.
pub(super) type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves the name of one endpoint.
pub(super) struct CachingResolver {
    reach: Reach,
    clock: Arc<dyn Clock>,
    lookup: Arc<Lookup>,
    cache: Arc<Cache>,
}

#[derive(Default)]
struct Cache {
    state: Mutex<State>,
    looked_up: Condvar,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    error: Option<String>,
    fresh_until: Option<Moment>,
    is_looking: bool,
    /// Lookups ended so far.
    lookups: u64,
}

/// No address of a host may be connected to.
#[derive(Debug)]
pub(super) struct AddressRefused {
    host: String,
    /// One of them.
    address: IpAddr,
}

impl CachingResolver {
    pub(super) fn new(reach: Reach, clock: Arc<dyn Clock>, lookup: Arc<Lookup>) -> Self {
        Self { reach, clock, lookup, cache: Arc::default() }
    }

    fn addresses(
        &self,
        target: &str,
        timeout: NextTimeout,
    ) -> Result<Vec<SocketAddr>, ureq::Error> {
        let mut state = self.cache.state();
        if state.fresh_until.is_some_and(|until| self.clock.moment() < until) {
            return Ok(state.addresses.clone());
        }
        if !state.is_looking {
            state.is_looking = true;
            drop(state);
            self.start_lookup(target)?;
            state = self.cache.state();
        }
        let before = state.lookups;
        let is_pending = |state: &mut State| state.lookups == before && state.is_looking;
        let waited = self.cache.looked_up.wait_timeout_while(state, *timeout.after, is_pending);
        let (state, result) = waited.expect("no holder of the lookup panics");
        match &state.error {
            _ if result.timed_out() => Err(ureq::Error::Timeout(timeout.reason)),
            Some(error) => Err(io::Error::other(error.clone()).into()),
            None => Ok(state.addresses.clone()),
        }
    }

    /// A thread, because the system's lookup cannot be given a deadline. There is one at a time.
    fn start_lookup(&self, target: &str) -> Result<(), ureq::Error> {
        let (target, cache, clock) =
            (target.to_owned(), Arc::clone(&self.cache), Arc::clone(&self.clock));
        let lookup = Arc::clone(&self.lookup);
        let run = move || cache.ended(&target, lookup(&target), &*clock);
        let started = thread::Builder::new().name("forebay-resolve".to_owned()).spawn(run);
        if let Err(error) = started {
            self.cache.state().is_looking = false;
            self.cache.looked_up.notify_all();
            return Err(error.into());
        }
        Ok(())
    }

    fn check(&self, address: IpAddr, is_literal: Literal) -> bool {
        let is_own = is_literal == Literal::Yes && address.to_canonical().is_loopback();
        is_own || self.reach.allow_private || is_public(address)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Yes,
    No,
}

impl Cache {
    fn ended(&self, target: &str, found: io::Result<Vec<SocketAddr>>, clock: &dyn Clock) {
        let mut state = self.state();
        state.is_looking = false;
        state.lookups += 1;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                state.addresses = addresses;
                state.error = None;
                state.fresh_until = Some(clock.moment().plus(TTL));
            }
            Ok(_) => state.error = Some(format!("{target} has no address")),
            Err(error) => state.error = Some(format!("{target}: {error}")),
        }
        drop(state);
        self.looked_up.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lookup panics")
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let (found, is_literal) = match bare.parse::<IpAddr>() {
            Ok(address) => (vec![SocketAddr::new(address, port)], Literal::Yes),
            Err(_) => (self.addresses(&format!("{host}:{port}"), timeout)?, Literal::No),
        };
        let mut allowed = self.empty();
        let usable = found.iter().filter(|address| self.check(address.ip(), is_literal));
        for &address in usable.take(ADDRESSES_MAX) {
            allowed.push(address);
        }
        match found.first() {
            Some(first) if allowed.is_empty() => {
                let refused = AddressRefused { host: host.to_owned(), address: first.ip() };
                Err(ureq::Error::Other(Box::new(refused)))
            }
            _ => Ok(allowed),
        }
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        write!(f, "{host} is at {address}, which is not public, and allow_private is not set")
    }
}

impl std::error::Error for AddressRefused {}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use ureq::config::Config;
    use ureq::unversioned::resolver::Resolver;
    use ureq::unversioned::transport::NextTimeout;
    use ureq::unversioned::transport::time::Duration as Left;

    use super::{CachingResolver, Lookup};
    use crate::deliver::hand_clock::HandClock;
    use crate::deliver::settings::Reach;

    /// A name server that answers with these addresses, and counts.
    #[derive(Default)]
    struct Names {
        addresses: Mutex<Vec<&'static str>>,
        lookups: Mutex<usize>,
    }

    struct Bench {
        names: Arc<Names>,
        clock: Arc<HandClock>,
        resolver: CachingResolver,
    }

    impl Bench {
        fn new(reach: Reach) -> Self {
            let (names, clock) = (Arc::<Names>::default(), Arc::<HandClock>::default());
            let asked = Arc::clone(&names);
            let lookup = move |target: &str| {
                assert_eq!(target, "sink.test:443");
                *asked.lookups.lock().unwrap() += 1;
                let addresses = asked.addresses.lock().unwrap();
                let parse = |text: &&str| SocketAddr::new(text.parse().unwrap(), 443);
                Ok(addresses.iter().map(parse).collect())
            };
            let lookup: Arc<Lookup> = Arc::new(lookup);
            let resolver = CachingResolver::new(reach, clock.clone(), lookup);
            Self { names, clock, resolver }
        }

        fn answer(&self, addresses: &[&'static str]) {
            *self.names.addresses.lock().unwrap() = addresses.to_vec();
        }

        /// What may be connected to, or the error.
        fn resolve(&self, url: &str) -> String {
            let after = Left::Exact(Duration::from_secs(20));
            let timeout = NextTimeout { after, ..NextTimeout::default() };
            match self.resolver.resolve(&url.parse().unwrap(), &Config::default(), timeout) {
                Ok(found) => {
                    let found: Vec<_> = found.iter().map(|at| at.ip().to_string()).collect();
                    found.join(" ")
                }
                Err(error) => error.to_string(),
            }
        }
    }

    const NAMED: &str = "https://sink.test/in";

    #[test]
    fn a_name_that_turns_private_is_refused_though_it_was_public() {
        let bench = Bench::new(Reach::default());
        bench.answer(&["8.8.8.8"]);
        assert_eq!(bench.resolve(NAMED), "8.8.8.8");
        bench.answer(&["10.0.0.1"]);
        bench.clock.pass(Duration::from_millis(29_999));
        assert_eq!(bench.resolve(NAMED), "8.8.8.8", "what was looked up and checked");
        bench.clock.pass(Duration::from_millis(1));
        let refused = bench.resolve(NAMED);
        assert!(refused.contains("sink.test is at 10.0.0.1, which is not public"), "{refused}");
        assert_eq!(*bench.names.lookups.lock().unwrap(), 2);
        bench.answer(&["8.8.4.4"]);
        bench.clock.pass(Duration::from_secs(30));
        assert_eq!(bench.resolve(NAMED), "8.8.4.4");
    }

    #[test]
    fn only_allowed_addresses_are_connected_to() {
        let private = Reach { allow_private: true, ..Reach::default() };
        let public = Reach::default();
        // (what it shows, what is allowed, what the name resolves to, what may be connected to)
        let cases: [(_, _, &[&str], _); 8] = [
            ("a public one", public, &["8.8.8.8"], Some("8.8.8.8")),
            ("of several the public ones", public, &["10.0.0.1", "8.8.8.8"], Some("8.8.8.8")),
            ("loopback behind a name", public, &["127.0.0.1", "::1"], None),
            ("link-local, where metadata is", public, &["169.254.169.254", "fe80::1"], None),
            ("unique local and shared", public, &["fd00::1", "100.64.0.1"], None),
            ("IPv4 in IPv6", public, &["::ffff:10.0.0.1", "::ffff:127.0.0.1"], None),
            ("nothing", public, &[], None),
            (
                "all, where that is meant",
                private,
                &["10.0.0.1", "fd00::1"],
                Some("10.0.0.1 fd00::1"),
            ),
        ];
        for (name, reach, addresses, expected) in cases {
            let bench = Bench::new(reach);
            bench.answer(addresses);
            let got = bench.resolve(NAMED);
            match expected {
                Some(expected) => assert_eq!(got, expected, "{name}"),
                None => assert!(got.contains("not public") || got.contains("no address"), "{name}"),
            }
        }
    }

    #[test]
    fn a_literal_address_is_not_looked_up() {
        let bench = Bench::new(Reach::default());
        for (url, expected) in [
            ("http://127.0.0.9:80/", "127.0.0.9"),
            ("http://[::1]:80/", "::1"),
            ("http://[::ffff:127.0.0.1]:80/", "::ffff:127.0.0.1"),
            ("https://8.8.8.8/", "8.8.8.8"),
        ] {
            assert_eq!(bench.resolve(url), expected);
        }
        assert!(bench.resolve("https://192.168.0.1/").contains("not public"));
        assert_eq!(*bench.names.lookups.lock().unwrap(), 0);
    }
}
