//! Other configurations while the engine runs, in the steps of its reloader (`super::super::reload`): what
//! that thread does up to its entry in the log, and what it does when the entry is derived. Anything may
//! happen in between, and a kill leaves a file that the next opening applies.

use crossbeam::channel::{Receiver, bounded};

use super::super::appender::Append;
use super::super::derivation::Derivation;
use super::super::transition::Transition;
use super::world::{Running, World, destinations, lock};
use crate::config::Config;
use crate::definitions::{self, Definitions};
use crate::deliver::by_hand::ByHand;
use crate::deliver::error::DeliveryError;
use crate::deliver::settings::{DataflowSettings, DestinationSettings};
use crate::error::EngineError;
use crate::project::projection::Projection;

/// A configuration whose entry is on its way.
pub(super) struct Reloading {
    /// What was delivered by before.
    old: Config,
    /// Told when the entry is derived.
    derived: Receiver<Option<Box<Derivation>>>,
}

impl World {
    /// The next configuration is asked for, if there is one.
    pub(super) fn begin_reload(&mut self) {
        let running = self.running.as_ref().expect("it runs");
        if running.reload.is_some() || self.config + 1 == self.script.configs.len() {
            return;
        }
        let old = self.config().clone();
        self.config += 1;
        let number = self.config;
        self.watch.count("reload");
        self.tell(|| format!("configuration {number} while it runs"));
        let new = self.config().clone();
        let running = self.running.as_mut().expect("it runs");
        let change = definitions::diff(running.deriver.definitions(), &new.definitions);
        let (told, derived) = bounded(1);
        let Some(change) = change else {
            told.send(None).expect("there is room for one");
            running.reload = Some(Reloading { old, derived });
            return;
        };
        let successor = running.folded_anew(&new.definitions).expect("the rules were checked");
        running.reload = Some(Reloading { old, derived });
        let removed = change.dataflows.removals.clone();
        let definitions = new.definitions;
        let transition = Box::new(Transition { change, definitions, successor, told });
        let retired = self.end_workers(&removed, ByHand::stop);
        // If one of them comes again, it is another dataflow to its receiver.
        for id in &removed {
            self.watch.replaced(id, false);
        }
        if retired.is_ok() {
            let running = self.running.as_mut().expect("it runs");
            running.appends.push_back((Append::Definitions(transition), Vec::new()));
        }
        self.ended("reloader", retired);
    }

    /// Whether the entry of a configuration is derived, so that delivery can be changed.
    pub(super) fn can_end_reload(&self) -> bool {
        let running = self.running.as_ref().expect("it runs");
        running.reload.as_ref().is_some_and(|reload| !reload.derived.is_empty())
    }

    /// Delivery is changed.
    pub(super) fn end_reload(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        let Reloading { old, .. } = running.reload.take().expect("it was derived");
        let new = self.config().clone();
        let running = self.running.as_ref().expect("it runs");
        let mut ids = lock(&running.hands).ids();
        ids.retain(|id| !goes_on(id, &old, &new));
        let changed = self.end_workers(&ids, ByHand::replace).and_then(|()| {
            let running = self.running.as_mut().expect("it runs");
            running.deliver_by(&new).map_err(|error| error.to_string())
        });
        if changed.is_ok() {
            for id in &ids {
                self.watch.replaced(id, has_same_receiver(id, &old, &new));
            }
            self.watch.configure(&new);
        }
        self.tell(|| format!("delivery is changed: {changed:?}"));
        self.ended("reloader", changed);
    }

    /// Ends these workers, when their requests have ended.
    fn end_workers(
        &mut self,
        dataflows: &[String],
        end: impl Fn(&mut ByHand, &str) -> Result<(), DeliveryError>,
    ) -> Result<(), String> {
        while let Some(open) =
            self.flights.iter().position(|flight| dataflows.contains(&flight.dataflow))
        {
            self.end(open);
        }
        let running = self.running.as_ref().expect("it runs");
        let mut hands = lock(&running.hands);
        dataflows.iter().try_for_each(|id| end(&mut hands, id).map_err(|error| error.to_string()))
    }
}

impl Running {
    /// A projection that has seen what `coming` asks of the past, if the present one has not.
    fn folded_anew(&self, coming: &Definitions) -> Result<Option<Box<Derivation>>, EngineError> {
        let known = &self.deriver.derivation;
        if known.projection.has_seen_all_for(coming)? {
            return Ok(None);
        }
        let mut all = known.history().to_vec();
        all.push(coming.clone());
        let mut successor = Box::new(Derivation::new(Projection::new(self.kind, all)?));
        let end = self.store.log().next_offset().as_u64();
        successor.follow(&self.store, end, &|| true)?;
        Ok(Some(successor))
    }

    fn deliver_by(&mut self, config: &Config) -> Result<(), EngineError> {
        for dataflow in &config.dataflows {
            lock(&self.hands).set_sending(&dataflow.id, dataflow.sending);
        }
        lock(&self.hands).start(&destinations(config), &config.dataflows)?;
        self.shared.set_configuration(config.clone());
        self.deriver.budgets.configure(config);
        let hands = std::sync::Arc::clone(&self.hands);
        self.deriver.tell_all(&|id, sequence| lock(&hands).notify(id, sequence))
    }
}

/// Whether a dataflow is sent as before, but for being paused.
fn goes_on(id: &str, old: &Config, new: &Config) -> bool {
    let (Some(before), Some(wanted)) = (old.dataflow(id), new.dataflow(id)) else { return false };
    let before = DataflowSettings { sending: wanted.sending, ..before.clone() };
    before == *wanted && destination_of(id, old) == destination_of(id, new)
}

fn has_same_receiver(dataflow: &str, old: &Config, new: &Config) -> bool {
    let endpoint = |config| destination_of(dataflow, config).map(|settings| &settings.endpoint);
    endpoint(old) == endpoint(new)
}

fn destination_of<'a>(dataflow: &str, config: &'a Config) -> Option<&'a DestinationSettings> {
    let destination = config.destination(&config.dataflow(dataflow)?.destination)?;
    Some(&destination.settings)
}
