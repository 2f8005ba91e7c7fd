module vouch.test/judge

go 1.19
