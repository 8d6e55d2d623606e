//! Accounts, and what they may: somebody with a role somewhere, as a test needs them.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    Api,
    client::{Answer, Client, Credentials},
};

pub const IAM: &str = "/apis/iam.isocast.dev/v1alpha1";

/// An object of group `iam`.
pub fn iam(kind: &str, namespace: Option<&str>, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "iam.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

/// A binding of a role of the platform.
pub fn binding(namespace: &str, name: &str, role: &str, subject: &Value) -> Value {
    let spec = json!({
        "role": {"name": role, "namespace": "isocast-system"}, "subjects": [subject],
    });
    iam("PolicyBinding", Some(namespace), name, &spec)
}

/// A user, as a subject.
pub fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

impl Api {
    /// The administrator.
    pub async fn admin(&self) -> Client {
        Credentials::load(self.kubeconfig()).connect().await.expect("gets in")
    }

    /// Whoever shows this token.
    pub async fn bearer(&self, token: &str) -> Client {
        let credentials = Credentials::load(self.kubeconfig()).anonymous();
        let mut client = credentials.connect().await.expect("TLS lets it in");
        client.bearer = Some(token.to_owned());
        client
    }

    /// Makes a user who may nothing.
    pub async fn user(&self, admin: &mut Client, name: &str) -> Client {
        admin.create(&format!("{IAM}/users"), &iam("User", None, name, &json!({}))).await;
        let token = admin.token(&format!("{IAM}/users/{name}/token"), &json!({})).await;
        self.bearer(&token).await
    }

    /// Makes a user with a role in a container.
    pub async fn user_with(
        &self,
        admin: &mut Client,
        name: &str,
        role: &str,
        container: &str,
    ) -> Client {
        let client = self.user(admin, name).await;
        admin.bind(container, name, role, &user(name)).await;
        client
    }
}

impl Client {
    /// Makes an object.
    #[track_caller]
    pub fn create<'a>(
        &'a mut self,
        path: &'a str,
        value: &'a Value,
    ) -> impl Future<Output = Answer> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.post(path, value).await;
            assert_eq!(answer.code, StatusCode::CREATED, "{caller}: {path} {answer:?}");
            answer
        }
    }

    /// Asks for a token, by the subresource of an account.
    pub async fn token(&mut self, path: &str, spec: &Value) -> String {
        let answer = self.create(path, &json!({"spec": spec})).await;
        answer.body["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Gives somebody a role of the platform in a container.
    pub async fn bind(&mut self, container: &str, name: &str, role: &str, subject: &Value) {
        let path = format!("{IAM}/namespaces/{container}/policybindings");
        self.create(&path, &binding(container, name, role, subject)).await;
    }
}
