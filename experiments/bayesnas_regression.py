"""placeholder"""
def main(config, run): raise NotImplementedError
