//! Why a token is not taken: a bounded word for the log and the metric, never for the one who asked.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// Not three parts of base64url, not JSON, a member that comes twice, too large.
    Malformed,
    /// The header has something that is not allowed: a key of its own, `crit`, an odd `kid`.
    Header,
    /// An algorithm that the issuer is not allowed, `none` and shared secrets among them.
    Algorithm,
    /// Not the media type of an access token.
    Type,
    /// It is an id token, or another one that is not for calling an API.
    IdToken,
    /// Nobody whose tokens are accepted.
    Issuer,
    /// A claim is missing, or of the wrong form.
    Claims,
    /// For another API.
    Audience,
    /// Past its time.
    Expired,
    /// Before its time.
    NotYet,
    /// The issuer has no such key.
    UnknownKey,
    /// Not signed by that key.
    Signature,
    /// Bound to a client certificate (or a key) that was not shown.
    Binding,
    /// No client of ours is bound to who it was given to.
    UnknownClient,
}

impl TokenFault {
    /// The label of the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "token-malformed",
            Self::Header => "token-header",
            Self::Algorithm => "token-algorithm",
            Self::Type => "token-type",
            Self::IdToken => "token-id-token",
            Self::Issuer => "token-issuer",
            Self::Claims => "token-claims",
            Self::Audience => "token-audience",
            Self::Expired => "token-expired",
            Self::NotYet => "token-not-yet",
            Self::UnknownKey => "token-unknown-key",
            Self::Signature => "token-signature",
            Self::Binding => "token-binding",
            Self::UnknownClient => "token-unknown-client",
        }
    }
}
