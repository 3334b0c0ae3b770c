module atoll.dev/cluster/pause

go 1.26.0
