//! Joint-Feldman with complaints, as a pure state machine (spec section 3).
//!
//! # Two rules for a host
//!
//! **The outputs of every call count.** Complaints come out of [`Participant::settle`], [`Participant::apply`] and
//! [`Participant::end_phase`], answers out of `end_phase`: whatever a call returns is to be sent, posted or told, the shares and
//! the vector of the start no more than the rest. A complaint that is not posted is a share that is missing in the end.
//!
//! **A member is handed its own broadcasts back**, as they stand on the board, like everybody's. One that is not holds itself for
//! disqualified, and ends with other keys than everybody else, which [`OurShare::Unheard`] tells.
//!
//! # The flow
//!
//! 1. **Sharing.** [`Participant::start`] draws a polynomial from a seed and returns one private share for every other
//!    member and one broadcast, the commitment vector. Shares and vectors of the others are taken in as they come.
//! 2. **Complaints.** [`Participant::end_phase`] disqualifies dealers without a vector; dealers whose share is missing or
//!    wrong get a broadcast complaint.
//! 3. **Answers.** `end_phase` disqualifies dealers with more than `t` complaints; ours are answered with the shares in
//!    question. [`Participant::finish`] disqualifies dealers that left one unanswered, and sums what the others dealt.
//!
//! # Two steps
//!
//! **Taking a message in and judging it are two steps.** `take_*` sorts a message and makes the remarks and verdicts that
//! cost nothing. The curve arithmetic for whatever is pending is handed out as a [`Work`], which can be done on any thread, at any
//! time, and its [`Findings`] are [applied](Participant::apply) when they are there; [`Participant::settle`] does both at once, and
//! the phase ends do so by themselves with what is left. The keys are handed out likewise ([`Participant::conclude`]). When a host
//! has the work done changes no verdict.
//!
//! # One sequence for all
//!
//! Every broadcast counts where it stands on the board, **a member's own too**: hand a member its own broadcasts back, in
//! the board's order, like everybody's. That is why all honest members reach the same verdicts, and why the reference,
//! which enters its own complaint into its table ahead of the board, can be split (`*_split_view` in the vectors).
//!
//! # How much gets out
//!
//! A dealer answers at most `t` complaints, each with one share in public. That keeps its secret from outsiders, and from `t`
//! malicious members **as long as no honest member has to complain about it**: these know `t` shares, and any one more makes the
//! secret known. So a share that reaches an honest member within phase 1 is not only a matter of a run's success.
//! [`Participant::exposures`] says how close each dealer has come.
//!
//! # What it does not promise
//!
//! Messages must come authenticated, and broadcasts in one order for everybody: that is the board's work. The group key
//! can be biased by a dealer that speaks last and chooses to be disqualified (Gennaro, Jarecki, Krawczyk, Rabin 1999);
//! for the unique signatures it is made for that does no harm, for other uses think again.

mod dealer;
mod exposure;
mod fault;
mod message;
mod outcome;
mod participant;
mod work;

pub use exposure::Exposure;
pub use fault::{Disqualification, Remark};
pub use message::{Broadcast, encode_answer, encode_complaint, encode_share, encode_vector};
pub use outcome::{Failure, Keys, OurShare, Outcome};
pub use participant::{Error, Output, Parameters, Participant, Phase};
pub use work::{Conclusion, Findings, KeyWork, WORK_POINTS, Work};
