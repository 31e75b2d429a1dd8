//! As `Agent::act` and `Agent::carry_out`.

use super::looking::{is_unread, sample, without_stat};
use super::node::used;
use super::*;

/// A gentle remedy was begun for this target.
fn is_tried(meant: &HashMap<TargetId, Meant>, rungs: &Rungs, id: TargetId) -> bool {
    meant.get(&id).and_then(|m| m.container).is_some_and(|c| rungs.begun.contains_key(&c))
}

impl World<'_> {
    pub(super) fn act(&mut self) {
        loop {
            self.decide();
            let effects = self.controller.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    /// What was reported or is due is decided, by what is read at this moment.
    fn decide(&mut self) {
        let World { controller, meant, bodies, memory, last_read, bug, now, rng, quiet, slow, node, rungs, .. } = self;
        let mut read = |id, _: &Groups| {
            if rng.u16(0..300) == 0 && !*quiet && !node.prompt {
                let what = ReadErrorKind::Malformed(Malformed::Empty);
                return Err(ReadError { path: "memory.stat".into(), what });
            }
            let mut sample = sample(meant, bodies, memory, *now, id);
            if let (Some(sample), Some(true)) = (&mut sample, meant.get(&id).map(|m| is_unread(m, bodies, slow, *now)))
            {
                without_stat(sample);
            }
            if let Some(meant) = meant.get(&id) {
                last_read.insert(meant.uid.clone(), (id, sample, *now));
            }
            if let Some(sample) = &mut sample {
                match bug {
                    // As if it could grow for ever, once something was tried.
                    Some(Bug::WaitsTooLong) if !is_tried(meant, rungs, id) => {}
                    Some(Bug::HoldsBeyondTheDeadline | Bug::WaitsTooLong) => {
                        let endless = Bytes(1 << 50);
                        sample.own.swap_left = endless;
                        sample.pod = sample.pod.map(|pod| Level { swap_left: endless, ..pod });
                    }
                    Some(Bug::TrustsTheVerdict) => sample.own.usage = sample.base().unwrap_or(Bytes(1 << 38)),
                    _ => {}
                }
            }
            Ok(sample)
        };
        controller.decide(*now, &mut read, &mut || node.memory(used(memory, *now)));
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve(id, want) => {
                let container = want.container.as_ref().map(|c| u64::from_str_radix(&c.to_string()[48..], 16).unwrap());
                let uid = want.pod.0;
                let key = self.bodies.get(&uid).map(|b| b.name);
                let key = key.or_else(|| self.told.values().find(|p| p.uid == uid).map(|p| p.key));
                let key = key.unwrap_or(("", 0));
                self.meant.entry(id).or_insert(Meant { uid, key, container, evidence: None, sound: false, edit: 0 });
                let wait = self.between(1, 40);
                self.after(wait, Event::Resolved(id));
            }
            Effect::Sampler(command) => self.obey(command),
            Effect::Post(number, order) => self.post(number, order),
            Effect::Warn(id, warning) => {
                if self.bug == Some(Bug::WarnsTwice) {
                    self.warn(id, (*warning).clone());
                }
                self.warn(id, *warning);
            }
            Effect::Notify(notice) => self.noticed(&notice),
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::Watch(watch) => {
                let id = watch.id;
                let target = Target::new(*watch, now);
                let (samples, undisturbed) = (VecDeque::new(), now);
                self.looked.insert(id, Looked { target, scheduled: now, since: None, samples, undisturbed });
                self.at(now, Event::Look(id, now));
            }
            Command::Rule(id, rule, edit) => {
                if let Some(looked) = self.looked.get_mut(&id) {
                    looked.target.edited(rule, edit, now);
                    (looked.scheduled, looked.since, looked.undisturbed) = (now, None, now);
                    if let Some(meant) = self.meant.get_mut(&id) {
                        (meant.edit, meant.evidence) = (edit, None);
                    }
                    self.at(now, Event::Look(id, now));
                }
            }
            Command::Rearm(_) if self.bug == Some(Bug::LosesRearm) => {}
            Command::Rearm(id) => {
                self.count("rearmed");
                if let Some(looked) = self.looked.get_mut(&id) {
                    looked.target.rearm();
                }
            }
            Command::Follow(id) => {
                if let Some(looked) = self.looked.get_mut(&id) {
                    looked.target.follow(now);
                    looked.scheduled = now;
                    self.at(now, Event::Look(id, now));
                }
            }
            Command::Forget(id) => {
                self.looked.remove(&id);
                self.meant.remove(&id);
                self.trails.remove(&id);
            }
        }
    }
}
