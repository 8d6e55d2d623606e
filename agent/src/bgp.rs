//! The BGP driver.
