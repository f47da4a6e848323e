//! Empty: with a build script cargo resolves the build dependencies.

fn main() {}
