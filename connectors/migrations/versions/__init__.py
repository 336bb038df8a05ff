"""One file per revision of the alert store's schema; a revision that was released is never changed."""
