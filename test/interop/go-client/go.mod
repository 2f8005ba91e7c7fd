module vouch.test/client

go 1.19
