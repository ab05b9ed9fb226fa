"""What attackers try, one module an attacker's way in; docs/security.md says which test is for which threat."""
