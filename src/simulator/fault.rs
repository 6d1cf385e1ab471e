//! What can go wrong: the attacks of malicious members, and the mishaps of honest ones.
//!
//! The attacks are those that are known of distributed key generation and its implementations, as far as they apply here:
//!
//! | attack | played by |
//! | --- | --- |
//! | bias of the key by the last dealer, rogue keys | last-to-speak, negated-vector, copied-vector, cancelling-pair |
//! | another threshold, no entropy | long-vector, short-vector, low-degree, zero-secret |
//! | points that are none, or outside the group | undecodable-vector, off-subgroup-vector |
//! | equivocation | second-vector, second-share, second-answers |
//! | messages on both sides of a phase's end | last-moment-vector, the late ones, wrong-moments, slow and lagging members |
//! | replay from other runs, other members, other purposes | foreign-run, stolen-posts, bad-signatures, log-tricks |
//! | extraction of shares by complaints | false-complaints, concerted-complaints, unsolicited-answers |
//! | shares drawn into public by members that hold up messages | stalled-receipts |
//! | the split view | early-answers |
//! | floods, poisoned batches, indices out of range | garbage-posts, private-flood, repeated-, malformed-complaints |
//! | a bogus message in the place of the real one | second-share, malformed-shares, random-bytes |
//! | punished duplicates | repeated-shares, and the network's own |
//! | unknown senders | stranger |
//! | a result that is not the members' | wrong-result, result-tricks |
//! | a second dealing, a lost verdict after a crash | crash, store-failure |
//! | stale access to the chain | lagging-board, board-outage, cut-off |
//!
//! Not here: what resharing would need (there is none), proofs of knowledge (there are none), and what threads can do to each
//! other, which no run in one thread can show.

use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// One thing that can be wrong with a member for the length of a run.
        ///
        /// A malicious member plays one or several attacks and follows the protocol otherwise. An honest one suffers
        /// mishaps; it counts among the `t` like a malicious one, but never does anything that it should not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $(#[doc = $text] $variant,)*
        }

        impl Fault {
            /// All of them: attacks first, then mishaps.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)*];

            /// The name, as on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }

            /// What the member does, or what happens to it.
            pub fn description(self) -> &'static str {
                match self { $(Fault::$variant => $text,)* }
            }
        }
    };
}

faults! {
    Silent "silent" "Says nothing in the run.",
    NoVector "no-vector" "Deals shares without a commitment vector.",
    UndecodableVector "undecodable-vector" "Posts a vector with a point that does not decode.",
    OffSubgroupVector "off-subgroup-vector" "Posts a vector with a point of the curve that is outside the group.",
    ShortVector "short-vector" "Posts a vector with a point too few.",
    LongVector "long-vector" "Posts a vector with a point too many: it would raise the threshold.",
    LowDegree "low-degree" "Deals from a polynomial of a lower degree, its last point the identity.",
    ZeroSecret "zero-secret" "Deals a secret of zero, its first point the identity.",
    CopiedVector "copied-vector" "Posts the vector of an honest dealer as its own.",
    NegatedVector "negated-vector" "Posts the vector that would cancel an honest dealer's out of the key.",
    CancellingPair "cancelling-pair" "Deals the opposite of what the first malicious member deals.",
    SecondVector "second-vector" "Posts a second, different vector, and sends it in private too.",
    LateVector "late-vector" "Posts its vector when phase 1 is over.",
    LastMomentVector "last-moment-vector" "Posts its vector at the very end of phase 1.",
    WithholdShares "withhold-shares" "Keeps back the shares of up to t members.",
    WithholdMany "withhold-many" "Keeps back the shares of more than t members.",
    WrongShares "wrong-shares" "Sends wrong shares to up to t members.",
    MalformedShares "malformed-shares" "Sends private messages that are no shares to up to t members.",
    SecondShare "second-share" "Sends a wrong share and a right one, in either order.",
    RepeatedShares "repeated-shares" "Sends every share several times.",
    LateShares "late-shares" "Sends its shares when phase 1 is over.",
    NoAnswers "no-answers" "Keeps back a share and leaves the complaint unanswered.",
    WrongAnswers "wrong-answers" "Keeps back a share and answers with a wrong one.",
    MalformedAnswers "malformed-answers" "Keeps back a share and answers with what is no answer.",
    EarlyAnswers "early-answers" "Keeps back a share and answers before the complaint: the attack that splits the reference.",
    UnsolicitedAnswers "unsolicited-answers" "Answers members that have not complained.",
    SecondAnswers "second-answers" "Keeps back a share and answers twice, rightly and wrongly.",
    LateAnswers "late-answers" "Keeps back a share and answers when phase 3 is over.",
    FalseComplaints "false-complaints" "Complains about honest dealers whose shares were good.",
    ConcertedComplaints "concerted-complaints" "Complains, with all malicious members, about one and the same honest dealer.",
    RepeatedComplaints "repeated-complaints" "Complains again and again about the same honest dealer.",
    MalformedComplaints "malformed-complaints" "Posts a complaint that names nobody.",
    LateComplaints "late-complaints" "Complains when phase 2 is over.",
    SelfComplaint "self-complaint" "Complains about itself.",
    GarbagePosts "garbage-posts" "Posts what is no envelope: no JSON, other JSON, far too much.",
    UnknownBroadcast "unknown-broadcast" "Broadcasts an empty message or one with an unknown tag.",
    ForeignRun "foreign-run" "Posts and sends messages of another run.",
    StolenPosts "stolen-posts" "Posts other members' envelopes as its own.",
    BadSignatures "bad-signatures" "Posts envelopes that nobody has signed, or with another key or for another purpose.",
    Stranger "stranger" "Has somebody outside the committee send and post in the run.",
    RandomBytes "random-bytes" "Broadcasts and sends arbitrary bytes, properly signed.",
    WrongMoments "wrong-moments" "Says what is right in one phase in the others.",
    PrivateFlood "private-flood" "Sends every member private messages by the dozen.",
    StalledReceipts "stalled-receipts" "Takes every private message and confirms none, or as late as it can, and asks for more.",
    WrongResult "wrong-result" "Submits another result, the same as all who do this.",
    ResultTricks "result-tricks" "Submits nothing, the empty result, or several.",
    LastToSpeak "last-to-speak" "Waits for everybody's vector before it posts its own, to bias the key.",
    ClockTricks "clock-tricks" "On a log chain: ticks views that its clock has not reached, or none at all.",
    LogTricks "log-tricks" "On a log chain: appends entries that are repeated, malformed, forged, or vouch for another log.",
    CutOff "cut-off" "Has no link to anybody for a while: no messages, no board, no blocks.",
    LostShares "lost-shares" "Its private messages to or from some members never arrive.",
    BoardOutage "board-outage" "None of its whiteboard clients answers for a while.",
    LaggingBoard "lagging-board" "Its whiteboard clients see every block views later than others.",
    SlowNode "slow-node" "Takes long for whatever it does.",
    WrongClock "wrong-clock" "On a log chain: its clock is minutes off.",
    StoreFailure "store-failure" "Its store fails; the node stops for good, as it must.",
    Crash "crash" "Is killed between any two steps, or in the middle of one, and started again later.",
}

// The set of faults is part of a run's number.
const _: () = assert!(Fault::ALL.len() <= FaultSet::BITS);

impl Fault {
    /// Whether it is an attack; if not, it is a mishap of an honest member.
    pub fn is_malicious(self) -> bool {
        self < Fault::CutOff
    }

    /// Whether it means nothing but on a log chain.
    pub(super) fn needs_log(self) -> bool {
        matches!(self, Fault::ClockTricks | Fault::LogTricks | Fault::WrongClock)
    }

    /// Its place among all faults.
    pub(super) fn number(self) -> u64 {
        self as u64
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault '{0}'")]
pub struct UnknownFault(pub String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let found = Fault::ALL.iter().find(|fault| fault.name() == name);
        found.copied().ok_or_else(|| UnknownFault(name.chars().take(80).collect()))
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// Faults that there can be.
    pub(super) const BITS: usize = 60;

    /// No fault.
    pub const NONE: FaultSet = FaultSet(0);

    /// All but [`Fault::Crash`].
    pub fn all() -> Self {
        Fault::ALL.iter().copied().filter(|fault| *fault != Fault::Crash).collect()
    }

    /// With one more.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        FaultSet(self.0 | 1 << fault.number())
    }

    /// Whether it is among them.
    pub fn contains(self, fault: Fault) -> bool {
        self.0 & 1 << fault.number() != 0
    }

    /// The faults in it.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |fault| self.contains(*fault))
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The set with these bits; `None` if one of them is no fault.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        (bits >> Fault::ALL.len() == 0).then_some(FaultSet(bits))
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        faults.into_iter().fold(FaultSet::NONE, FaultSet::with)
    }
}
