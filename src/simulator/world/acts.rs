//! What the malicious members do.

use super::super::chance::Draw;
use super::super::coalition::{Act, Planned};
use super::super::plan::VIEW_MS;
use super::super::timeline::deed;
use super::super::watch::Rule;
use super::{Chain, Happening, STRANGER, World};
use rand::RngExt;

impl World {
    pub(super) fn act(&mut self, planned: Planned) {
        let Planned { member, fault, act, .. } = planned;
        let who = format!("{member}*");
        let as_played = |text: String| match fault {
            Some(fault) => format!("{text} [{fault}]"),
            None => text,
        };
        match act {
            Act::Due(deed) => {
                let planned = self.coalition.due(member, deed, self.now);
                self.rush(planned);
            }
            Act::Post(content) => {
                self.timeline.note(self.now, &who, || as_played(deed(&content)));
                let planned = self.coalition.overhear(member, &content, self.now);
                let refused = self.put_on_board(member, &content).is_err();
                if refused {
                    self.watch.mark("dropped post", "refused by the board");
                }
                self.schedule(planned);
            }
            Act::StrangerPosts(content) => {
                self.timeline.note(self.now, "stranger", || as_played(deed(&content)));
                let taken = match &mut self.chain {
                    Chain::Contract(chain) => chain.post(STRANGER, &content).is_ok(),
                    Chain::Log(_) => false,
                };
                if taken {
                    self.watch.break_rule(Rule::Resilience, || "the board takes a stranger's post".to_owned());
                }
            }
            Act::StrangerSends(to, message) => {
                self.at(self.now + 1, Happening::Arrives { from: STRANGER, to, message, call: None });
            }
            Act::Send(to, message) => {
                self.timeline.note(self.now, &who, || as_played(format!("sends member {to} a private message")));
                let weather = *self.plan.weather();
                let mut dice = self.dice(Draw::Link);
                let at = self.now + dice.random_range(1..=weather.link_ms.min(VIEW_MS - 1));
                let from = self.config.committee().members().get(member).map(|member| member.node_id);
                if let Some(from) = from.filter(|_| !self.is_severed(to, member)) {
                    self.at(at, Happening::Arrives { from, to, message, call: None });
                }
            }
            Act::Submit(instance, result) => {
                self.timeline.note(self.now, &who, || as_played("submits a result".to_owned()));
                let _ = self.put_result(member, &instance, &result);
            }
        }
    }
}
