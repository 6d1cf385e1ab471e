//! The computing thread.

use super::lifecycle::{DeskInbox, Mailbox, Received};
use super::mail::ReactorInput;
use super::step::Input;
use super::task::{Task, TaskId};

/// One computation after the other, its result to the reactor. The reactor waits for the latest that it has asked for, and for
/// no other.
pub(super) fn compute(inbox: &DeskInbox<(TaskId, Box<Task>)>, reactor: &Mailbox<ReactorInput>) {
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
