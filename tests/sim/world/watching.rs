//! What the watch tells of it, some time later or not at all; and what the agent was told.

use super::*;

impl World<'_> {
    pub(super) fn selects(&self, pod: &Pod) -> bool {
        self.unselective || (pod.label == Label::Enabled && pod.node == NODE)
    }

    pub(super) fn notify(&mut self, old: Option<&Pod>, new: Option<&Pod>) {
        if !self.watching {
            return;
        }
        match (old.filter(|p| self.selects(p)), new.filter(|p| self.selects(p))) {
            (_, Some(new)) => self.say(Word::Applied(new.clone())),
            (Some(old), None) => self.say(Word::Gone(old.clone(), new.is_some())),
            (None, None) => {}
        }
    }

    /// In order, each some time after it happened.
    pub(super) fn say(&mut self, word: Word) {
        let delay = match self.rng.u8(0..30) {
            0 => self.between(200, 3000),
            _ => self.between(5, 120),
        };
        self.heard_at = self.heard_at.max(self.now + delay);
        self.at(self.heard_at, Event::Heard(self.epoch, word));
    }

    pub(super) fn relist(&mut self) {
        self.say(Word::Listing);
        let pods: Vec<Pod> = self.api.values().filter(|p| self.selects(p)).cloned().collect();
        for pod in pods {
            self.say(Word::Applied(pod));
        }
        self.say(Word::Listed);
    }

    pub(super) fn watch_is_back(&mut self) {
        self.watching = true;
        self.relist();
    }

    pub(super) fn heard(&mut self, word: Word) {
        trace!(
            self,
            "heard {}",
            match &word {
                Word::Applied(pod) => format!("applied {}", pod.uid),
                Word::Gone(pod, _) => format!("gone {}", pod.uid),
                word => format!("{word:?}"),
            }
        );
        match &word {
            Word::Listing => {
                self.listing = Some(HashSet::new());
                self.sign_of_life();
                if self.bug != Some(Bug::HearsNoSign) {
                    self.controller.heard(self.now);
                }
                self.act();
                self.check_asked_again();
            }
            Word::Applied(pod) => {
                self.count("heard: applied");
                if let Some(seen) = &mut self.listing {
                    seen.insert(pod.key);
                }
                if self.told.get(&pod.key).is_some_and(|old| old.uid != pod.uid || pod.label != Label::Enabled) {
                    self.untold(pod.key);
                }
                self.unlabelled.remove(&pod.uid);
                self.owners_ever.insert(pod.owner_key());
                self.told.insert(pod.key, pod.clone());
                self.learn_kills(pod);
                self.learn_limits(pod);
            }
            Word::Gone(pod, lives) => {
                self.count("heard: gone");
                if *lives {
                    self.unlabelled.insert(pod.uid.clone());
                }
                self.untold(pod.key);
            }
            Word::Listed => {
                self.count("heard: listed");
                (self.listed, self.away) = (true, None);
                let seen = self.listing.take().unwrap_or_default();
                let gone: Vec<Key> = self.told.keys().filter(|k| !seen.contains(*k)).copied().collect();
                for key in gone {
                    if self.api.get(&key).is_some_and(|p| p.uid == self.told[&key].uid) {
                        self.unlabelled.insert(self.told[&key].uid.clone());
                    }
                    self.untold(key);
                }
            }
            Word::WatchFailure => {
                self.count("heard: trouble");
                self.away = Some(self.now);
            }
        }
        self.pass_on(word);
    }

    /// Forgotten: should it come again, it is told anew.
    pub(super) fn untold(&mut self, key: Key) {
        if let Some(pod) = self.told.remove(&key) {
            self.notices.remove(&pod.uid);
            self.forget_limits(&pod.uid);
            self.warned.retain(|(uid, _), _| *uid != pod.uid);
            self.sent.values_mut().filter(|s| s.order.pod.uid.0 == pod.uid).for_each(|s| s.forgotten = true);
            if let Some(tries) = self.tries.get_mut(&pod.uid) {
                *tries = Tries { in_flight: tries.in_flight, ..Tries::default() };
            }
        }
    }

    pub(super) fn pass_on(&mut self, word: Word) {
        let id = |pod: &Pod| PodRef { namespace: pod.key.0.into(), name: name(pod.key), uid: PodUid(pod.uid.clone()) };
        let change = match word {
            Word::Listing | Word::Listed if self.bug == Some(Bug::KeepsTheGone) => return,
            Word::Listing => PodChange::Listing,
            Word::Listed => PodChange::Listed,
            Word::WatchFailure => PodChange::Failed(pods::WatchFailure::unreachable("away".into())),
            Word::Gone(_, true) if self.bug == Some(Bug::KeepsTheUnlabelled) => return,
            Word::Gone(_, false) if self.bug == Some(Bug::KeepsTheGone) => return,
            Word::Gone(pod, _) => PodChange::Gone(id(&pod)),
            Word::Applied(mut pod) => {
                match self.bug {
                    Some(Bug::KeepsTheUnlabelled) => pod.label = Label::Enabled,
                    Some(Bug::KeepsInvalidGuards) if pod.ask.guarded(&pod).is_none() => {
                        pod.ask.threshold = crate::pod::Threshold::Percent(50);
                        pod.ask.targets = crate::pod::Targets::All;
                    }
                    Some(Bug::ForgetsWhoIsNever) => {
                        (pod.mirror, pod.terminating, pod.node) = (false, false, NODE);
                        if pod.phase != "Pending" {
                            pod.phase = "Running";
                        }
                    }
                    Some(Bug::ForgetsSustained) => pod.ask.sustained = 0,
                    Some(Bug::ForgetsForce) => pod.ask.force = None,
                    Some(Bug::RaisesPastItsBound) => pod.ask.ladder.to = pod.ask.ladder.to.map(|to| to * 4),
                    Some(Bug::EvictsUnlisted) => {
                        pod.ask.ladder.list = pod.ask.ladder.list.map(|list| match list {
                            "raise" => "raise,evict",
                            "restart" => "restart,evict",
                            "raise,restart" => "raise,restart,evict",
                            list => list,
                        });
                    }
                    Some(Bug::LosesTheGrace) => pod.ask.grace = None,
                    Some(Bug::WarnsTheFormer) => pod.network = *self.former.entry(pod.key).or_insert(pod.network),
                    Some(Bug::WarnsAnyAddress) => pod.network = Network::SOUND,
                    Some(Bug::IgnoresDryRun) => pod.ask.dry = Dry::Off,
                    _ => {}
                }
                let mut pod = pods::Pod::from_json(&pod.json()).unwrap();
                assert!(pod.unreadable.is_empty(), "the generator writes what can be read: {:?}", pod.unreadable);
                match self.bug {
                    Some(Bug::ForgetsTheAge) => pod.containers.iter_mut().for_each(|c| c.started_at = None),
                    Some(Bug::TakesEachPodForAnOwner) => {
                        if let Some(owner) = &mut pod.owner {
                            (owner.name, owner.template_hash) = (pod.id.uid.0.clone(), None);
                        }
                    }
                    _ => {}
                }
                PodChange::Applied(Box::new(pod))
            }
        };
        self.controller.pod_changed(self.now, change);
    }
}
