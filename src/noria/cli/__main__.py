from noria.cli import main; main()
