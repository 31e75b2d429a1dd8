//! What is shown and remembered.

use super::*;

impl World<'_> {
    pub(super) fn check_shown(&mut self, healed: bool) {
        if self.controller.next_tick().is_some_and(|at| at + millis(1) < self.now) {
            self.fail(Invariant::Shown, format!("due at {:?}, now it is {:?}", self.controller.next_tick(), self.now));
        }
        self.check_gives_way();
        let views = self.controller.guards(self.now);
        for view in &views {
            if view.state == "held" {
                let said = self.notices.get(&view.uid).map(Vec::as_slice).unwrap_or_default();
                if !said.iter().any(|(kind, _)| *kind == "held") && said.len() < 64 {
                    self.fail(Invariant::Reported, format!("{} is held, and it was not told", view.uid));
                }
            }
        }
        let pods: Vec<Pod> = self.told.values().cloned().collect();
        for pod in pods {
            let of_pod: Vec<_> = views.iter().filter(|v| v.uid == pod.uid).collect();
            if pod.label != Label::Enabled {
                continue;
            }
            let Some((names, group)) = pod.ask.guarded(&pod) else {
                if !of_pod.iter().any(|v| v.state == "invalid") {
                    self.fail(Invariant::Shown, format!("{} is invalid, shown is {of_pod:?}", pod.uid));
                }
                continue;
            };
            if pod.never().is_some() {
                if of_pod.iter().any(|v| v.container.is_some() && v.state == "watching" && !pod.terminating) {
                    self.fail(Invariant::Shown, format!("{} is never evicted, shown is {of_pod:?}", pod.uid));
                }
                continue;
            }
            let running = pod.containers.iter().filter(|c| c.running && names.contains(&c.name));
            let targets = running.map(|c| (Some(c.name), c.id)).chain(group.then_some((None, None)));
            for (name, id) in targets.collect::<Vec<_>>() {
                // A number that is not in use, to look with.
                let look = TargetId(u64::MAX);
                let meant =
                    Meant { uid: pod.uid.clone(), key: pod.key, container: id, evidence: None, sound: false, edit: 0 };
                self.meant.insert(look, meant);
                let sample = self.sample(look);
                self.meant.remove(&look);
                let Some(sample) = sample else { continue };
                if is_over(&sample.own, sample.base(), &pod.ask) != Some(true) {
                    continue;
                }
                self.count("over in the end");
                let view = of_pod.iter().find(|v| v.container.as_deref() == name);
                let state = view.map_or("nothing", |v| v.state.as_str());
                let acting = [
                    "held",
                    "raising",
                    "restarting",
                    "no-remedy",
                    "evicting",
                    "blocked",
                    "refused",
                    "throttled",
                    "failing",
                    "unknown",
                    "unauthorized",
                    "evicted",
                    "dry-run",
                    "gone",
                    "replaced",
                    "namespace-terminating",
                    "mistake",
                    "denied",
                    "ineffective",
                ];
                let open = [
                    "blocked",
                    "refused",
                    "throttled",
                    "failing",
                    "unknown",
                    "unauthorized",
                    "sustaining",
                    "gone",
                    "replaced",
                    "namespace-terminating",
                    "mistake",
                    "denied",
                    "ineffective",
                ];
                let fine = match state {
                    "sustaining" => pod.ask.sustained > 0,
                    "over" => of_pod.iter().any(|v| acting.contains(&v.state.as_str())),
                    state => acting.contains(&state),
                };
                // The sampler's word may just be on its way.
                let on_its_way = self.queue.iter().any(|Reverse(Timed(_, _, event))| match event {
                    Event::Report(report, _) => self.meant.get(&report.id).is_some_and(|m| m.uid == pod.uid),
                    _ => false,
                });
                if on_its_way {
                    continue;
                }
                if !fine || (healed && open.contains(&state)) {
                    let text = format!("{name:?} of {} is over, shown is {view:?}; healed: {healed}", pod.uid);
                    self.fail(Invariant::Shown, text);
                }
            }
        }
    }

    pub(super) fn check_bounds(&mut self) {
        let sizes = self.controller.sizes();
        let opted_in = self.told.values().filter(|p| p.label == Label::Enabled).count();
        let targets: usize = self.told.values().map(|p| p.containers.len() + 1).sum();
        // An owner is remembered for ten minutes: for its evictions, each of which took a token, and for its young ends.
        let (burst, each) = (self.limits.burst + self.limits.rescue_burst, self.limits.refill.as_secs() as usize);
        let ever = self.owners_ever.len();
        let owners = ever.min(burst as usize + 2 * (600 / each) + 2) + ever;
        let in_flight = self.sent.len();
        let held = sizes.pods <= opted_in
            && sizes.targets <= targets
            && sizes.ids == sizes.targets
            && sizes.reported <= 64
            && sizes.kills <= 18
            && sizes.last_samples <= 2
            && sizes.owners <= owners
            && sizes.namespaces <= 3
            && sizes.in_flight <= in_flight
            && self.looked.len() <= targets;
        if !held {
            let text = format!(
                "{sizes:?} and {} looked at; told of {opted_in} pods with {targets} targets, {in_flight} in flight, {owners} owners",
                self.looked.len()
            );
            self.fail(Invariant::Bounded, text);
        }
    }
}
