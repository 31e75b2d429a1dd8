//! As `Agent::act` and `Agent::carry_out`.

use super::*;

impl World<'_> {
    pub(super) fn act(&mut self) {
        loop {
            let effects = self.controller.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve(id, want) => {
                let container = want.container.as_ref().map(|c| u64::from_str_radix(&c.as_str()[48..], 16).unwrap());
                let uid = want.pod.0;
                let key = self.bodies.get(&uid).map(|b| b.name);
                let key = key.or_else(|| self.told.values().find(|p| p.uid == uid).map(|p| p.key));
                let key = key.unwrap_or(("", 0));
                self.meant.entry(id).or_insert(Meant { uid, key, container, evidence: None, sound: false, edit: 0 });
                let wait = self.between(1, 40);
                self.after(wait, Event::Resolved(id));
            }
            Effect::Sampler(command) => self.obey(command),
            Effect::Reread(id, _) => {
                let mut sample = self.sample(id);
                if let Some(meant) = self.meant.get(&id) {
                    self.last_read.insert(meant.uid.clone(), (id, sample, self.now));
                }
                if self.bug == Some(Bug::TrustsTheVerdict)
                    && let Some(sample) = &mut sample
                {
                    sample.own.usage = sample.base().unwrap_or(Bytes(1 << 38));
                }
                self.controller.reread(self.now, id, Ok(sample));
            }
            Effect::Post(number, order) => self.post(number, order),
            Effect::Tell(notice) => self.tell(&notice),
            Effect::EvictionTakes(takes) => self.takes = takes,
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::Watch(watch) => {
                let id = watch.id;
                let target = Target::new(*watch, now);
                self.looked.insert(id, Looked { target, scheduled: now, since: None });
                self.at(now, Event::Look(id, now));
            }
            Command::Rule(id, rule, edit) => {
                if let Some(looked) = self.looked.get_mut(&id) {
                    looked.target.edited(rule, edit, now);
                    (looked.scheduled, looked.since) = (now, None);
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
            Command::Forget(id) => {
                self.looked.remove(&id);
                self.meant.remove(&id);
            }
        }
    }
}
