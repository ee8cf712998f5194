//! accounts: who a customer is. Registers, logs in, and vouches for people with signed tokens.

mod password;
mod store;
mod tokens;
mod web;

use std::env;
use std::process::ExitCode;

use serde_json::{Value, json};
use store::{Store, User};
use tokens::Tokens;
use web::{Answer, Call, Problem, serve};

const SHORTEST_PASSWORD: usize = 8;

struct Accounts {
    store: Store,
    tokens: Tokens,
    /// What a login with an unknown e-mail address is compared with, see [`Accounts::login`].
    nobody: String,
}

fn main() -> ExitCode {
    match Accounts::open().and_then(|accounts| serve(|call| accounts.answer(call))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            web::log("error", "cannot start", None, json!({ "error": error }));
            ExitCode::FAILURE
        }
    }
}

impl Accounts {
    fn open() -> Result<Self, String> {
        let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
        let store = Store::open(&url)?;
        let secret = store.signing_key(random()?).map_err(|e| e.to_string())?;
        let nobody = password::hash("nobody's password").map_err(|e| e.to_string())?;
        let accounts = Self { store, tokens: Tokens::new(secret), nobody };
        // A customer for the tour. A real shop would not ship one.
        let ada = json!({ "email": "ada@example.com", "name": "Ada", "password": "correct-horse" });
        match accounts.register(&ada) {
            Ok(_) | Err(Problem { status: 409, .. }) => Ok(accounts),
            Err(problem) => Err(problem.inside.unwrap_or(problem.detail)),
        }
    }

    fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        match (call.method.as_str(), call.path.as_str()) {
            ("GET", "/healthz") => {
                self.store.by_id("")?; // it can read its database
                Ok(Answer::json(200, json!({ "status": "ok" })))
            }
            ("GET", "/.well-known/jwks.json") => {
                let cache = Some("public, max-age=300");
                Ok(Answer { status: 200, body: Some(self.tokens.jwks()), cache })
            }
            ("POST", "/login") => self.login(&call.body),
            ("POST", "/user") => self.register(&call.body),
            ("GET", "/user") => Ok(Answer::json(200, public(&self.bearer(call)?))),
            ("PATCH", "/user") => self.change(self.bearer(call)?, &call.body),
            ("DELETE", "/user") => {
                self.store.delete(&self.bearer(call)?.id)?;
                Ok(Answer { status: 204, body: None, cache: None })
            }
            _ => Err(Problem::new(404, "there is nothing here")),
        }
    }

    fn login(&self, body: &Value) -> Result<Answer, Problem> {
        let user = self.store.by_email(&text(body, "email")?.to_lowercase())?;
        // An unknown address costs as much time as a wrong password, and gets the same answer:
        // nobody can find out here who our customers are.
        let hash = user.as_ref().map_or(&self.nobody, |user| &user.password);
        let right = password::matches(text(body, "password")?, hash);
        let user = user.filter(|_| right);
        let user = user.ok_or(Problem::new(401, "wrong e-mail address or password"))?;
        let (token, expires_in) = self.tokens.issue(&user.id);
        let body = json!({ "token": token, "token_type": "Bearer", "expires_in": expires_in });
        Ok(Answer { status: 200, body: Some(body), cache: Some("no-store") })
    }

    fn register(&self, body: &Value) -> Result<Answer, Problem> {
        let email = text(body, "email")?.to_lowercase();
        if !email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            return Err(Problem::new(422, "`email` is not an e-mail address"));
        }
        let name = body["name"].as_str().unwrap_or("").to_owned();
        let id = random::<12>().map_err(Problem::internal)?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        // Asked before the hash is made, so that a seed that exists costs no time; the UNIQUE
        // column still decides, should two ask at once.
        let known = self.store.by_email(&email)?.is_some();
        if !known {
            let user = User { id, email, name, password: hashed(text(body, "password")?)? };
            if self.store.add(&user)? {
                return Ok(Answer::json(201, public(&user)));
            }
        }
        Err(Problem::new(409, "this e-mail address has an account already"))
    }

    fn change(&self, mut user: User, body: &Value) -> Result<Answer, Problem> {
        if body["name"].is_string() {
            user.name = text(body, "name")?.to_owned();
        }
        if body["password"].is_string() {
            user.password = hashed(text(body, "password")?)?;
        }
        self.store.update(&user)?;
        Ok(Answer::json(200, public(&user)))
    }

    /// Whose token this is. The account is looked up as well: a deleted one ends its tokens.
    fn bearer(&self, call: &Call) -> Result<User, Problem> {
        let id = call.bearer.as_deref().and_then(|token| self.tokens.check(token));
        let user = id.map(|id| self.store.by_id(&id)).transpose()?.flatten();
        user.ok_or(Problem::new(401, "a valid token is needed: log in"))
    }
}

/// What others may see of a user.
fn public(user: &User) -> Value {
    json!({ "id": user.id, "email": user.email, "name": user.name })
}

fn hashed(password: &str) -> Result<String, Problem> {
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(Problem::new(422, "`password` needs at least 8 characters"));
    }
    password::hash(password).map_err(Problem::internal)
}

fn text<'a>(body: &'a Value, key: &str) -> Result<&'a str, Problem> {
    let missing = || Problem::new(422, format!("`{key}` is missing"));
    body[key].as_str().filter(|text| !text.is_empty()).ok_or_else(missing)
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}
