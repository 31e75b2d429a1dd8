//! Who asks, as whom, and whether they may: the token, `Impersonate-User` for a node
//! (constrained impersonation, Kubernetes 1.36), RBAC, the Node authorizer.

use crate::access::Wish;
use crate::answers;
use crate::reply::Reply;
use crate::route::Call;
use crate::select::required_field;
use crate::state::{Inner, State};

const ANONYMOUS: &str = "system:anonymous";
const NODE: &str = "system:node:";
/// What the role of nodes and the Node authorizer give, of what is served here.
const NODES_MAY: &[(&str, &str)] = &[
    ("get", "pods"),
    ("list", "pods"),
    ("watch", "pods"),
    ("delete", "pods"),
    ("create", "pods/eviction"),
    ("create", "events"),
    ("patch", "events"),
    ("create", "selfsubjectaccessreviews"),
];

/// The one who asks, after authentication and impersonation.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// The user that the request runs as.
    pub user: String,
    /// The node that the token is bound to.
    pub bound_to: Option<String>,
    /// The node that the request runs as.
    pub acts_as: Option<String>,
}

impl Call {
    /// 401 for a wrong token, 403 for none, and for what its bearer may not.
    pub(crate) fn authorize(&self, inner: &Inner) -> Result<Who, Reply> {
        inner.update_quietly(|state| {
            let who = self.authenticate(state)?;
            let who = self.impersonate(state, who)?;
            let (verb, resource) = (self.verb(), self.about.resource());
            let may = match &who.acts_as {
                Some(node) => {
                    self.node_may(state, &who, node)?;
                    NODES_MAY.contains(&(verb, &resource)) && !state.access.denies(verb, &resource)
                }
                None => who.user != ANONYMOUS && state.access.makes_use(&self.wish(&who.user, verb, &resource)),
            };
            match may {
                true => Ok(who),
                false => Err(self.forbidden(&who.user, verb)),
            }
        })
    }

    fn authenticate(&self, state: &State) -> Result<Who, Reply> {
        let user = match self.authorization.as_deref().map(|value| value.strip_prefix("Bearer ").unwrap_or(value)) {
            Some(token) if state.tokens.contains(token) => state.account.clone(),
            Some(_) => return Err(self.reply(&answers::UNAUTHORIZED, &[])),
            None => ANONYMOUS.to_owned(),
        };
        Ok(Who { user, bound_to: state.node.clone(), acts_as: None })
    }

    /// First the verb `impersonate-on:MODE:VERB` on what is asked for, then `impersonate:MODE`. With the
    /// feature gate off, or a group along, only the legacy verb counts, and nobody has it.
    fn impersonate(&self, state: &mut State, who: Who) -> Result<Who, Reply> {
        let Some(user) = self.impersonated("impersonate-user") else {
            return Ok(who);
        };
        if !state.constrained_impersonation || self.impersonate.len() > 1 {
            let vars = [("impersonated", user)];
            let user = &who.user;
            return Err(self.with_vars("", user, &vars, |vars| answers::IMPERSONATE_LEGACY.reply(vars)));
        }
        let node = user.strip_prefix(NODE);
        let mode = match node {
            Some(node) if who.bound_to.as_deref() == Some(node) => "associated-node",
            Some(_) => "arbitrary-node",
            None => "user-info",
        };
        let (verb, resource) = (format!("impersonate-on:{mode}:{}", self.verb()), self.about.resource());
        if !state.access.makes_use(&self.wish(&who.user, &verb, &resource)) {
            return Err(self.forbidden(&who.user, &verb));
        }
        let verb = format!("impersonate:{mode}");
        let wish = Wish {
            account: &who.user,
            verb: &verb,
            group: "authentication.k8s.io",
            resource: "nodes",
            namespace: "",
            name: "*",
        };
        if !state.access.makes_use(&wish) {
            let fact = &answers::IMPERSONATE_NODE;
            return Err(self.with_vars(&verb, &who.user, &[], |vars| fact.reply(vars)));
        }
        Ok(Who { user: user.to_owned(), acts_as: node.map(str::to_owned), ..who })
    }

    /// The Node authorizer: only lists of the own node, only pods of the own node.
    fn node_may(&self, state: &State, who: &Who, node: &str) -> Result<(), Reply> {
        if self.about.plural != "pods" || !self.about.subresource.is_empty() || self.method != "GET" {
            return Ok(());
        }
        let refuse =
            |fact: &answers::Fact| Err(self.with_vars("", &who.user, &[("node", node)], |vars| fact.reply(vars)));
        if self.about.name.is_empty() {
            let own = required_field(self.query("fieldSelector"), "spec.nodeName").is_some_and(|wanted| wanted == node);
            return if own { Ok(()) } else { refuse(&answers::NODE_AUTHORIZER) };
        }
        let pod = state.pods.get(&(self.about.namespace.clone(), self.about.name.clone()));
        if pod.is_some_and(|pod| pod["spec"]["nodeName"] == node) { Ok(()) } else { refuse(&answers::NODE_NO_RELATION) }
    }

    fn wish<'a>(&'a self, account: &'a str, verb: &'a str, resource: &'a str) -> Wish<'a> {
        let about = &self.about;
        Wish { account, verb, group: &about.group, resource, namespace: &about.namespace, name: &about.name }
    }

    fn forbidden(&self, user: &str, verb: &str) -> Reply {
        if self.about.plural.is_empty() {
            let verb = self.method.to_ascii_lowercase();
            return self.with_vars(&verb, user, &[], |vars| answers::FORBIDDEN_PATH.reply(vars));
        }
        self.with_vars(verb, user, &[], |vars| answers::FORBIDDEN.reply(vars))
    }

    fn impersonated(&self, header: &str) -> Option<&str> {
        self.impersonate.iter().find(|(name, _)| name == header).map(|(_, value)| value.as_str())
    }
}
