//! What is wrong with a token, in words for whoever sent it.

/// What is wrong with a token. It says nothing that the sender could not know from the token itself
/// and from what the service documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Longer than [`TOKEN_MAX`](super::TOKEN_MAX).
    #[error("the token is too long")]
    TooLong,
    /// Not of the form that tokens have.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not allowed here, or not at all.
    #[error("the token is not signed in a way that is accepted here")]
    Algorithm,
    /// It asks for extensions.
    #[error("the token needs extensions that are not supported")]
    Critical,
    /// It says that it is something else.
    #[error("the token is of a type that is not accepted here")]
    Type,
    /// No key is known that it could be signed by.
    #[error("the token is signed by a key that is not known")]
    UnknownKey,
    /// The signature is not of this token.
    #[error("the signature of the token is not valid")]
    Signature,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Not yet begun, or made in the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// Issued by someone else.
    #[error("the token is from another issuer")]
    Issuer,
    /// Issued for someone else.
    #[error("the token is for another audience")]
    Audience,
}
