//! The product that `ninefold demo` shows.
