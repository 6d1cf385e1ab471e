//! What members did wrong, as data.

use crate::bls::{Index, VectorError};

/// Why a dealer is disqualified: a verdict that every honest member reaches from the broadcasts alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disqualification {
    /// No vector by the end of phase 1.
    #[error("no commitment vector by the end of phase 1")]
    VectorMissing,
    /// A vector of the wrong length: another threshold than the committee's, or cut short.
    #[error("its commitment vector has {bytes} bytes; {expected} points were due")]
    VectorLength {
        /// Bytes received after the tag.
        bytes: usize,
        /// Points due: `t + 1`.
        expected: usize,
    },
    /// A vector with a point that does not decode or lies outside the group.
    #[error("its commitment vector is invalid: {0}")]
    VectorInvalid(VectorError),
    /// A complaint that names nobody.
    #[error("it broadcast a malformed complaint of {bytes} bytes")]
    ComplaintMalformed {
        /// Bytes received after the tag.
        bytes: usize,
    },
    /// An answer of the wrong length, or to nobody.
    #[error("it broadcast a malformed complaint answer of {bytes} bytes")]
    AnswerMalformed {
        /// Bytes received after the tag.
        bytes: usize,
    },
    /// An answer whose share is no scalar in `1..r`.
    #[error("its answer to member {complainer} is not a scalar between 1 and r - 1")]
    AnswerNotAScalar {
        /// Whom it answered.
        complainer: Index,
    },
    /// An answer whose share does not match the vector.
    #[error("its answer to member {complainer} does not match its commitment vector")]
    AnswerWrong {
        /// Whom it answered.
        complainer: Index,
    },
    /// More complaints than there can be malicious members.
    #[error("{complaints} members have an entry against it, and at most {threshold} may")]
    TooManyComplaints {
        /// Members with a complaint or an answer.
        complaints: usize,
        /// The threshold `t`.
        threshold: usize,
    },
    /// A complaint nobody answered by the end of phase 3.
    #[error("it left the complaint of member {complainer} unanswered")]
    ComplaintUnanswered {
        /// Who complained.
        complainer: Index,
    },
    /// An empty broadcast.
    #[error("it broadcast an empty message")]
    EmptyBroadcast,
    /// A broadcast with a tag that no broadcast has.
    #[error("it broadcast a message with the unknown tag {0}")]
    UnknownTag(u8),
    /// Excluded by the host.
    #[error("it was excluded by the host")]
    Forced,
}

/// A local remark about a member: it excludes nobody, and others may see things differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// A share after the end of phase 1.
    #[error("its share came after the end of phase 1")]
    LateShare,
    /// A second, different share.
    #[error("it sent a second share")]
    DuplicateShare,
    /// A private message that is not a share.
    #[error("its private message is not a share")]
    MalformedShare,
    /// A share that does not match the vector.
    #[error("its share does not match its commitment vector")]
    WrongShare,
    /// No share by the end of phase 1.
    #[error("it sent no share by the end of phase 1")]
    MissingShare,
    /// A vector after the end of phase 1.
    #[error("its commitment vector came after the end of phase 1")]
    LateVector,
    /// A second vector.
    #[error("it broadcast a second commitment vector")]
    DuplicateVector,
    /// A complaint after the end of phase 2.
    #[error("its complaint came after the end of phase 2")]
    LateComplaint,
    /// A second complaint about one dealer.
    #[error("it complained twice about member {accused}")]
    DuplicateComplaint {
        /// The dealer.
        accused: Index,
    },
    /// A second answer to one member.
    #[error("it answered member {complainer} twice")]
    DuplicateAnswer {
        /// The member answered.
        complainer: Index,
    },
}
