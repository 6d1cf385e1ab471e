//! The computing thread.

use super::lifecycle::{Inbox, Mailbox, Received};
use super::mail::ReactorInput;
use super::step::Input;
use super::task::{Task, TaskId};

/// One computation after the other, its result to the reactor.
pub(super) fn compute(inbox: &Inbox<(TaskId, Box<Task>)>, reactor: &Mailbox<ReactorInput>) {
    loop {
        match inbox.receive(None) {
            Received::Message((id, task)) => {
                let result = task.run();
                if inbox.is_stopped() || reactor.send(ReactorInput::Answer(Input::Computed { id, result })).is_err() {
                    return;
                }
            }
            Received::Woken => {}
            Received::Stopped => return,
        }
    }
}
