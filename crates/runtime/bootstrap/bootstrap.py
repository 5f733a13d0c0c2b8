import hawker_runtime

hawker_runtime.main()
