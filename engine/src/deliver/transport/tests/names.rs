//! Names whose addresses change, and connections that outlive the change.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::client::Network;
use super::super::{HttpTransport, Transport};
use super::{request, settings, short};
use crate::deliver::hand_clock::HandClock;
use crate::deliver::receiver::{OK, Receiver};
use crate::deliver::settings::{DestinationSettings, Reach};

/// A destination with a name, at an address that the test sets.
struct Named {
    settings: DestinationSettings,
    address: Arc<Mutex<SocketAddr>>,
    clock: Arc<HandClock>,
    transport: HttpTransport,
}

impl Named {
    fn new(receiver: &Receiver, age_max: Duration) -> Self {
        let mut settings = settings("http://sink.test/in".parse().unwrap());
        settings.reach = Reach { allow_insecure: true, allow_private: true };
        settings.timeout = Duration::from_secs(20);
        let (clock, address) = (Arc::<HandClock>::default(), Mutex::new(receiver.address()));
        let address = Arc::new(address);
        let at = Arc::clone(&address);
        let lookup = Arc::new(move |_: &str| Ok(vec![*at.lock().unwrap()]));
        let network = Network { clock: clock.clone(), lookup, age_max };
        let transport = HttpTransport::over(&network, &settings).unwrap();
        Self { settings, address, clock, transport }
    }

    fn send(&self) {
        assert_eq!(short(&self.transport.send(&request(&self.settings))), "200 {}");
    }
}

#[test]
fn an_endpoint_that_moves_is_found_when_its_lookup_is_old() {
    let (old, new) = (Receiver::start(|_, _| OK), Receiver::start(|_, _| OK));
    let named = Named::new(&old, Duration::ZERO);
    named.send();
    *named.address.lock().unwrap() = new.address();
    named.clock.pass(Duration::from_secs(29));
    named.send();
    assert_eq!((old.seen().len(), new.seen().len()), (2, 0));
    named.clock.pass(Duration::from_secs(1));
    named.send();
    assert_eq!((old.seen().len(), new.seen().len()), (2, 1));
    let connections: Vec<usize> = old.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 2], "connections of no age are not kept");
}

#[test]
fn a_young_connection_is_kept_whatever_the_name_says() {
    let (old, new) = (Receiver::start(|_, _| OK), Receiver::start(|_, _| OK));
    let named = Named::new(&old, Duration::from_hours(1));
    named.send();
    *named.address.lock().unwrap() = new.address();
    named.clock.pass(Duration::from_secs(30));
    named.send();
    assert_eq!((old.seen().len(), new.seen().len()), (2, 0));
}
