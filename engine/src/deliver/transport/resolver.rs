//! Names to addresses, cached, and checked on every use.
//!
//! The client resolves before every request, on a thread of its own each time. Here a literal
//! address is no lookup, and a name is looked up once in [`TTL`] by one thread while the others wait
//! for it, no longer than their request's deadline.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
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
const TTL: Duration = Duration::from_secs(30);
/// Most addresses tried for one name; what the client's list holds.
const ADDRESSES_MAX: usize = 16;

/// Resolves the name of one endpoint.
pub(super) struct CachingResolver {
    reach: Reach,
    clock: Arc<dyn Clock>,
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

/// An address that may not be connected to.
#[derive(Debug)]
pub(super) struct AddressRefused(String);

impl CachingResolver {
    pub(super) fn new(reach: Reach, clock: Arc<dyn Clock>) -> Self {
        Self { reach, clock, cache: Arc::default() }
    }

    fn lookup(&self, target: &str, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
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
            Some(error) => Err(std::io::Error::other(error.clone()).into()),
            None => Ok(state.addresses.clone()),
        }
    }

    /// A thread, because the system's lookup cannot be given a deadline. There is one at a time.
    fn start_lookup(&self, target: &str) -> Result<(), ureq::Error> {
        let (target, cache, clock) =
            (target.to_owned(), Arc::clone(&self.cache), Arc::clone(&self.clock));
        let lookup = move || cache.look_up(&target, &*clock);
        let started = thread::Builder::new().name("forebay-resolve".to_owned()).spawn(lookup);
        if let Err(error) = started {
            self.cache.state().is_looking = false;
            return Err(error.into());
        }
        Ok(())
    }

    fn check(&self, address: IpAddr, is_literal: Literal) -> bool {
        let is_own = is_literal == Literal::Yes && address.is_loopback();
        is_own || self.reach.allow_private || is_public(address)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Yes,
    No,
}

impl Cache {
    fn look_up(&self, target: &str, clock: &dyn Clock) {
        let found = target.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
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
            Err(_) => (self.lookup(&format!("{host}:{port}"), timeout)?, Literal::No),
        };
        let mut allowed = self.empty();
        let usable = found.iter().filter(|address| self.check(address.ip(), is_literal));
        for &address in usable.take(ADDRESSES_MAX) {
            allowed.push(address);
        }
        if allowed.is_empty() {
            return Err(ureq::Error::Other(Box::new(AddressRefused(host.to_owned()))));
        }
        Ok(allowed)
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is an internal address, and allow_private is not set", self.0)
    }
}

impl std::error::Error for AddressRefused {}
