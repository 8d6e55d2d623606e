//! [`SERVED`]: every review there is, as paths and discovery show them.

use isocast_api::{iam, registry};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apiserver) enum Review {
    /// Ours: what decides, or everything that somebody may in a container.
    Access,
    LocalSubjectAccess,
    SelfAccess,
    SelfRules,
    SelfSubject,
    SubjectAccess,
    Token,
}

/// A review as it is served.
#[derive(Debug)]
pub(in crate::apiserver) struct Served {
    pub(in crate::apiserver) review: Review,
    pub(in crate::apiserver) group: &'static str,
    pub(in crate::apiserver) version: &'static str,
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) plural: &'static str,
    pub(in crate::apiserver) singular: &'static str,
    pub(in crate::apiserver) namespaced: bool,
}

pub(super) const AUTHENTICATION: &str = "authentication.k8s.io";
pub(super) const AUTHORIZATION: &str = "authorization.k8s.io";
pub(super) const LOCAL_REVIEWS: &str = "localsubjectaccessreviews";

/// In order of groups and names.
pub(in crate::apiserver) const SERVED: &[Served] = &[
    served(
        Review::SelfSubject,
        AUTHENTICATION,
        ["SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"],
    ),
    served(Review::Token, AUTHENTICATION, ["TokenReview", "tokenreviews", "tokenreview"]),
    Served {
        namespaced: true,
        ..served(
            Review::LocalSubjectAccess,
            AUTHORIZATION,
            ["LocalSubjectAccessReview", LOCAL_REVIEWS, "localsubjectaccessreview"],
        )
    },
    served(
        Review::SelfAccess,
        AUTHORIZATION,
        ["SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview"],
    ),
    served(
        Review::SelfRules,
        AUTHORIZATION,
        ["SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview"],
    ),
    served(
        Review::SubjectAccess,
        AUTHORIZATION,
        ["SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"],
    ),
    Served {
        version: registry::VERSION,
        ..served(Review::Access, iam::GROUP, ["AccessReview", "accessreviews", "accessreview"])
    },
];

const fn served(
    review: Review,
    group: &'static str,
    [kind, plural, singular]: [&'static str; 3],
) -> Served {
    Served { review, group, version: "v1", kind, plural, singular, namespaced: false }
}

impl Review {
    /// The review at a path, if it is one.
    pub(in crate::apiserver) fn of(
        group: &str,
        version: &str,
        plural: &str,
        namespaced: bool,
    ) -> Option<Self> {
        let asked = (group, version, plural, namespaced);
        let served =
            SERVED.iter().find(|it| (it.group, it.version, it.plural, it.namespaced) == asked);
        served.map(|served| served.review)
    }
}
