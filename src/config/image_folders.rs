//! `images.dir`: one folder, or several in the order in which an image is looked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Folders with a folder per image. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolders(Arc<[PathBuf]>);

impl ImageFolders {
    /// All folders, in order.
    pub fn all(&self) -> &[PathBuf] {
        &self.0
    }

    /// The folder that has the image `name`: the first with a folder of that name, else the last.
    pub fn of(&self, name: &str) -> &Path {
        let found = self.0.iter().find(|folder| folder.join(name).is_dir());
        found.or(self.0.last()).map_or(Path::new(""), PathBuf::as_path)
    }

    /// The folders as a text for messages.
    pub fn shown(&self) -> String {
        self.0.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" and ")
    }
}

impl<P: Into<PathBuf>, const N: usize> From<[P; N]> for ImageFolders {
    fn from(folders: [P; N]) -> ImageFolders {
        ImageFolders(folders.into_iter().map(Into::into).collect())
    }
}

impl PartialEq<Path> for ImageFolders {
    fn eq(&self, other: &Path) -> bool {
        matches!(&*self.0, [only] if only == other)
    }
}

impl PartialEq<PathBuf> for ImageFolders {
    fn eq(&self, other: &PathBuf) -> bool {
        *self == **other
    }
}

/// The spellings of the setting.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelling {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Serialize for ImageFolders {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [only] => Spelling::One(only.clone()).serialize(to),
            several => Spelling::Several(several.to_vec()).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for ImageFolders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ImageFolders, D::Error> {
        match Spelling::deserialize(from)? {
            Spelling::One(folder) => Ok(ImageFolders::from([folder])),
            Spelling::Several(folders) if folders.is_empty() => {
                Err(serde::de::Error::custom("the list is empty; name the folder with the images"))
            }
            Spelling::Several(folders) => Ok(ImageFolders(folders.into())),
        }
    }
}

impl JsonSchema for ImageFolders {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageFolders".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["array", "string"], "items": { "type": "string" }, "x-path": true })
    }
}
