//! Warnings: may they go where they go, and what comes of them.

use std::net::SocketAddr;

use pre_oom_killer::act::warn::{Warned, Warning};

use super::*;

/// A container is warned once in this time.
const ONCE_IN: Duration = Duration::from_secs(60);

impl World<'_> {
    pub(super) fn warn(&mut self, id: TargetId, mut warning: Warning) {
        if self.bug == Some(Bug::WarnsAnyAddress)
            && let Some((_, ip)) = self.told_of(id).and_then(|pod| pod.network.address)
        {
            warning.to.set_ip(ip);
        }
        self.count("sent: warning");
        trace!(self, "warned {} at {}: {warning:?}", id.0, warning.to);
        self.check_warning(id, &warning);
        let (answer, wait) = match self.rng.u8(0..8) {
            0 => (Warned::Failed("no answer within 1 s".into()), millis(1000)),
            1 => (Warned::Failed("connection refused".into()), millis(1)),
            2 => (Warned::Answered(307), self.between(1, 1000)),
            _ => (Warned::Heard, self.between(1, 1000)),
        };
        self.after(wait, Event::Warned(id, answer));
    }

    /// The pod of a target, as the agent was told of it last.
    fn told_of(&self, id: TargetId) -> Option<&Pod> {
        let meant = self.meant.get(&id)?;
        self.told.get(&meant.key).filter(|pod| pod.uid == meant.uid)
    }

    fn check_warning(&mut self, id: TargetId, warning: &Warning) {
        use Invariant::*;
        let Some(pod) = self.told_of(id).cloned() else {
            return self.fail(Present, format!("{warning:?}, of which was told that it is no more"));
        };
        let guarded = pod.ask.guarded(&pod);
        if pod.label != Label::Enabled || guarded.is_none() {
            self.fail(OptedIn, format!("{warning:?}, which asks for nothing valid: {pod:?}"));
        }
        if let Some(why) = pod.never() {
            self.fail(Eligible, format!("{warning:?}, which is {why}"));
        }
        if self.dry_run != Dry::Off || pod.ask.dry != Dry::Off {
            self.fail(DryRun, format!("{warning:?} in a dry run"));
        }
        let asked = pod.ask.warn.and_then(|warn| Some((warn.port?, warn.path)));
        let own = pod.network.own().zip(asked).map(|(ip, (port, _))| SocketAddr::new(ip.to_canonical(), port));
        let to = SocketAddr::new(warning.to.ip().to_canonical(), warning.to.port());
        if own != Some(to) {
            self.fail(NoStranger, format!("{to} is warned in place of {own:?}: {pod:?}"));
        }
        let container = self.meant[&id].container;
        let container = pod.containers.iter().find(|c| container.is_some() && c.id == container);
        let is_it = container
            .is_some_and(|c| c.name == warning.container && guarded.is_some_and(|(names, _)| names.contains(&c.name)));
        let names = (warning.namespace.as_str(), warning.pod.as_str(), Some(warning.path.as_str()));
        if !is_it || names != (pod.key.0, name(pod.key).as_str(), asked.map(|(_, path)| path)) {
            self.fail(NoStranger, format!("{warning:?} is not what was asked for: {pod:?}"));
        }
        let instance = container.and_then(|c| c.id).unwrap_or_default();
        let last = self.warned.insert((pod.uid, instance), self.now);
        if let Some(last) = last.filter(|last| self.now < *last + ONCE_IN) {
            self.fail(WarnsOnce, format!("{warning:?} after the one at {last:?}"));
        }
    }

    /// Nothing was sent: was there a reason?
    pub(super) fn told_not_warned(&mut self, notice: &Notice) {
        let pod = self.told.values().find(|pod| pod.uid == notice.pod.uid.0);
        match pod.map(|pod| pod.network.stranger()) {
            Some(Some(why)) => self.count(why),
            Some(None) if self.bug.is_none() => {
                self.fail(Invariant::TrulyTold, format!("{notice:?}, though it has an address of its own"));
            }
            _ => {}
        }
    }
}
