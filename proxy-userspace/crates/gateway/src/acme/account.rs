//! Who asks: an account with the authority, registered once and kept.

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};

use super::{
    directory::Directory,
    failure::AcmeError,
    storage::{Storage, StorageError},
};

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// As the authority knows them.
    contacts: Vec<String>,
    /// Its URL and private key.
    credentials: AccountCredentials,
}

/// The account that is kept, or a new one where there is none.
pub(super) async fn open(
    directory: &Directory,
    contacts: &[String],
    storage: &Storage,
) -> Result<Account, AcmeError> {
    let path = storage.account();
    let Some(bytes) = Storage::read(&path)? else {
        return register(directory, contacts, storage).await;
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| {
        let problem = error.to_string();
        AcmeError::WithoutAccount(StorageError::Damaged { path, problem })
    })?;
    let credentials = serde_json::to_vec(&kept.credentials).unwrap_or_default();
    let account = builder(directory)
        .from_credentials(kept.credentials)
        .await
        .map_err(AcmeError::of("the account"))?;
    if kept.contacts != contacts {
        let all: Vec<&str> = contacts.iter().map(String::as_str).collect();
        account
            .update_contacts(&all)
            .await
            .map_err(AcmeError::of("the account's contacts"))?;
        if let Ok(credentials) = serde_json::from_slice(&credentials) {
            keep(storage, contacts, credentials)?;
        }
    }
    Ok(account)
}

/// Registers a new account, in place of one that may be kept.
pub(super) async fn register(
    directory: &Directory,
    contacts: &[String],
    storage: &Storage,
) -> Result<Account, AcmeError> {
    let all: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &all,
        // The configuration isn't proven without `agree_to_terms`.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder(directory)
        .create(&new, directory.url().to_owned(), None)
        .await
        .map_err(AcmeError::of("an account"))?;
    keep(storage, contacts, credentials)?;
    Ok(account)
}

fn builder(directory: &Directory) -> instant_acme::AccountBuilder {
    Account::builder_with_http(Box::new(directory.clone()))
}

fn keep(
    storage: &Storage,
    contacts: &[String],
    credentials: AccountCredentials,
) -> Result<(), StorageError> {
    let kept = Kept {
        contacts: contacts.to_vec(),
        credentials,
    };
    let path = storage.account();
    let bytes = serde_json::to_vec(&kept).map_err(|error| StorageError::System {
        action: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    storage.keep(&path, &bytes)
}
